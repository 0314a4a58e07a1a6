import { pipeline, Readable, type Transform } from 'node:stream';
import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
  inflateRawSync,
} from 'node:zlib';
import { createInspector } from './audio/inspector.ts';

/** Content codings that can be undone. */
export type ContentCoding = 'gzip' | 'deflate' | 'br' | 'zstd';

const CHUNK_BYTES = 64 * 1024;

/** The largest window that RFC 9659 allows for zstd in HTTP: 8 MiB. */
const ZSTD_WINDOW_LOG = 23;

const DECODERS: Readonly<Record<ContentCoding, () => Transform>> = {
  gzip: () => createGunzip({ chunkSize: CHUNK_BYTES }),
  deflate: () => createInflate({ chunkSize: CHUNK_BYTES }),
  br: () => createBrotliDecompress({ chunkSize: CHUNK_BYTES }),
  zstd: () =>
    createZstdDecompress({
      chunkSize: CHUNK_BYTES,
      params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG },
    }),
};

/** What a decoder holds at the most: its window, which the sender chooses, and some chunks. */
const DECODER_BYTES: Readonly<Record<ContentCoding, number>> = {
  gzip: 256 * 1024,
  deflate: 256 * 1024,
  br: 2 ** 24 + 256 * 1024,
  zstd: 2 ** ZSTD_WINDOW_LOG + 256 * 1024,
};

/** The most bytes of memory that undoing these codings takes. */
export function decodingMemory(codings: readonly ContentCoding[]): number {
  return codings.reduce((total, coding) => total + DECODER_BYTES[coding], 0);
}

/** More than one coding is rare, and each costs memory. */
const MAX_CODINGS = 2;

/** How many bytes are looked at to tell an encoded body from one that only carries the header. */
const SAMPLE_BYTES = 4096;

/**
 * The codings named by `Content-Encoding` that can be undone, in the order in which they were applied. Nobody asks for
 * any, yet buckets keep the header of an upload. Other names tell nothing about the bytes: `identity`, `binary`,
 * `base64` on plain bytes, or `aws-chunked`, which was undone when the object was stored.
 */
export function contentCodings(header: string): readonly ContentCoding[] {
  const names = header.slice(0, 256).toLowerCase().split(',');
  return names
    .map((name) => name.trim().replace(/^x-/, ''))
    .filter((name): name is ContentCoding => Object.hasOwn(DECODERS, name))
    .slice(0, MAX_CODINGS);
}

/**
 * Undoes codings, unless the bytes are not encoded at all: audio that is recognised as it is, or a body without the
 * magic number of the coding. Errors of `source` come through as they are; everything else that `read` throws says
 * that the bytes could not be decoded.
 *
 * @returns the decoded bytes, or, with `isDecoded` false, the same bytes as they came.
 */
export async function decodeContent(
  source: ByteSource,
  codings: readonly ContentCoding[],
): Promise<{ readonly source: ByteSource; readonly isDecoded: boolean }> {
  const unread: Buffer[] = [];
  let sampled = 0;
  while (sampled < SAMPLE_BYTES) {
    const chunk = await source.read();
    if (chunk === undefined) break;
    unread.push(chunk);
    sampled += chunk.length;
  }
  const whole = withUnread(source, unread);
  const head = Buffer.concat(unread);
  const outermost = codings.at(-1);
  if (outermost === undefined) return { source: whole, isDecoded: false };
  if (isEncoded(head, outermost)) {
    const decoders = codings.map((coding) => DECODERS[coding]());
    return { source: decoded(whole, decoders), isDecoded: true };
  }
  if (codings.length === 1 && outermost === 'deflate' && isRawDeflate(head)) {
    return { source: decoded(whole, [createInflateRaw({ chunkSize: CHUNK_BYTES })]), isDecoded: true };
  }
  return { source: whole, isDecoded: false };
}

function isEncoded(head: Buffer, coding: ContentCoding): boolean {
  switch (coding) {
    case 'gzip':
      return head.length >= 2 && head.readUInt16BE(0) === 0x1f8b;
    case 'zstd':
      return head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528;
    case 'deflate':
      // The header of RFC 1950: https://www.rfc-editor.org/rfc/rfc1950#section-2.2
      return head.length >= 2 && (head.readUInt8(0) & 0x0f) === 8 && head.readUInt16BE(0) % 31 === 0;
    case 'br':
      // Brotli has no magic number.
      return head.length > 0 && !isAudio(head);
  }
}

/**
 * Some servers send `deflate` without the header of RFC 1950: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.2
 * Almost any bytes can be the start of such a stream, so what comes out has to be audio, and what came must not be.
 */
function isRawDeflate(head: Buffer): boolean {
  if (isAudio(head)) return false;
  try {
    return isAudio(inflateRawSync(head, { finishFlush: constants.Z_SYNC_FLUSH }));
  } catch {
    // It is something else: the bytes are taken as they came.
    return false;
  }
}

function isAudio(head: Buffer): boolean {
  const inspector = createInspector(undefined);
  inspector.add(head);
  return inspector.identify().container !== undefined;
}

/** @param inOrder the decoders of the codings, in the order in which these were applied. */
function decoded(source: ByteSource, inOrder: readonly Transform[]): ByteSource {
  const decoders = [...inOrder].reverse();
  const encoded = Readable.from(piecesOf(source), { objectMode: false, highWaterMark: CHUNK_BYTES });
  // Errors reach the reader through the last stream.
  const stream = pipeline([encoded, ...decoders], () => undefined) as Transform;
  const iterator: AsyncIterator<Buffer> = stream[Symbol.asyncIterator]();
  return {
    async read() {
      const next = await iterator.next();
      return next.done ? undefined : next.value;
    },
    discard() {
      source.discard();
      stream.destroy();
    },
  };
}

async function* piecesOf(source: ByteSource): AsyncGenerator<Buffer, void, void> {
  for (let piece = await source.read(); piece !== undefined; piece = await source.read()) yield piece;
}
/** A body's bytes, taken piece by piece as fast as the consumer asks for them. */
export interface ByteSource {
  /**
   * The next bytes, never none of them; `undefined` after the last.
   * @throws VoicemailError when the body breaks off.
   */
  read(): Promise<Buffer | undefined>;
  /** Releases the rest; calling it again, or after the end, does nothing. */
  discard(): void;
}

/** The same bytes, with some in front that were read from it before. */
function withUnread(source: ByteSource, unread: readonly Buffer[]): ByteSource {
  const first = unread.values();
  return {
    async read() {
      const next = first.next();
      return next.done ? source.read() : next.value;
    },
    discard: () => source.discard(),
  };
}
