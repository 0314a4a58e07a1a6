import { recogniseAiff } from './aiff.ts';
import { recogniseAsf } from './asf.ts';
import { recogniseAu } from './au.ts';
import { recogniseCaf } from './caf.ts';
import type { Conclusion, Container } from './container.ts';
import { type DocumentKind, recogniseDocument } from './document.ts';
import { recogniseFlac } from './flac.ts';
import { recogniseAdts, recogniseAmr } from './frames.ts';
import { recogniseMatroska } from './matroska.ts';
import { recogniseMp4 } from './mp4.ts';
import { recogniseMpeg } from './mpeg.ts';
import { recogniseOgg } from './ogg.ts';
import { recogniseWav, recogniseWave64 } from './wav.ts';

/** What a body is, judged by its first bytes; neither where it is some unknown binary. */
export interface BodyFormat {
  readonly container?: Container;
  readonly document?: DocumentKind;
}

/** Looks at a body's bytes as they pass, keeping no more than its first and last ones. */
export interface Inspector {
  /** Takes note of the next bytes. */
  add(chunk: Buffer): void;
  /** Whether enough has passed to tell what it is. */
  readonly headIsComplete: boolean;
  /** What the body is, judged by the bytes so far. */
  identify(): BodyFormat;
  /** What the bytes so far say, were they all. `undefined` where no container was recognised. */
  conclude(): Conclusion | undefined;
}

/** @param contentType the body's header, which only decides what plain text is. */
export function createInspector(contentType: string | undefined): Inspector {
  let totalBytes = 0;
  let head: Buffer[] = [];
  /** Set for good once the head is complete. */
  let identity: BodyFormat | undefined;
  const tail: Buffer[] = [];
  /** Where in `tail` the chunks begin that are still wanted. */
  let tailStart = 0;
  let tailBytes = 0;

  function identify(): BodyFormat {
    if (identity !== undefined) return identity;
    // The same, however many of the bytes come at once.
    const found = identifyHead(firstOf(head, HEAD_BYTES), contentType);
    for (const chunk of head) found.container?.add?.(chunk);
    if (totalBytes < HEAD_BYTES) return found;
    identity = found;
    head = [];
    trimTail(found.container?.tailBytes ?? 0);
    return identity;
  }

  /** Releases the oldest chunks that the last `wanted` bytes do without. */
  function trimTail(wanted: number): void {
    let oldest = tail[tailStart];
    while (oldest && tailBytes - oldest.length >= wanted) {
      tailBytes -= oldest.length;
      tailStart += 1;
      oldest = tail[tailStart];
    }
    // Not one by one: a server that sends single bytes makes thousands of chunks, all of which a shift would move.
    if (2 * tailStart > tail.length) {
      tail.splice(0, tailStart);
      tailStart = 0;
    }
  }

  return {
    add(chunk) {
      totalBytes += chunk.length;
      tail.push(chunk);
      tailBytes += chunk.length;
      if (identity === undefined) {
        head.push(chunk);
        if (totalBytes >= HEAD_BYTES) identify();
      } else {
        identity.container?.add?.(chunk);
      }
      trimTail(identity === undefined ? HEAD_BYTES : (identity.container?.tailBytes ?? 0));
    },
    get headIsComplete() {
      return totalBytes >= HEAD_BYTES;
    },
    identify,
    conclude() {
      const { container } = identify();
      if (container === undefined) return undefined;
      const wanted = Math.min(container.tailBytes, tailBytes);
      const last = wanted === 0 ? Buffer.alloc(0) : Buffer.concat(tail.slice(tailStart));
      return container.conclude(totalBytes, last.subarray(last.length - wanted));
    },
  };
}

/** The first bytes of all chunks together, with no more copied than these. */
function firstOf(chunks: readonly Buffer[], bytes: number): Buffer {
  const [first] = chunks;
  if (first && (chunks.length === 1 || first.length >= bytes)) return first.subarray(0, bytes);
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  return Buffer.concat(chunks, Math.min(length, bytes));
}

function identifyHead(head: Buffer, contentType: string | undefined): BodyFormat {
  const container = recognise(head);
  if (container !== undefined) return { container };
  const document = recogniseDocument(head, contentType);
  return document === undefined ? {} : { document };
}

/** How many first bytes are looked at; headers, with the tags that may stand before them, rarely need more. */
const HEAD_BYTES = 64 * 1024;

/**
 * Recognises a container by a body's first bytes, never by its name or content type. ID3v2 tags may stand before any
 * of them; what begins with tags longer than the head stays unknown.
 *
 * @param head the first {@link HEAD_BYTES} of the body, or all of it if that is shorter.
 */
function recognise(head: Buffer): Container | undefined {
  const start = id3Lengths(head);
  const rest = head.subarray(start);
  let container: Container | undefined;
  for (const recogniseOne of RECOGNISERS) container ??= recogniseOne(rest);
  return container === undefined || start === 0 ? container : shifted(container, start);
}

/** The last two know no magic, only what frames look like. */
const RECOGNISERS = [
  recogniseWav,
  recogniseWave64,
  recogniseFlac,
  recogniseOgg,
  recogniseMp4,
  recogniseAmr,
  recogniseAiff,
  recogniseCaf,
  recogniseAu,
  recogniseMatroska,
  recogniseAsf,
  recogniseMpeg,
  recogniseAdts,
] as const;

/** The container as it is with so many bytes before it. */
function shifted(container: Container, start: number): Container {
  let before = start;
  return {
    contentType: container.contentType,
    tailBytes: container.tailBytes,
    add(chunk) {
      const skipped = Math.min(before, chunk.length);
      before -= skipped;
      container.add?.(chunk.subarray(skipped));
    },
    conclude(totalBytes, tail) {
      const ownBytes = totalBytes - start;
      return container.conclude(ownBytes, tail.subarray(Math.max(0, tail.length - ownBytes)));
    },
  };
}
/** Versions 2.2 to 2.4: https://id3.org/id3v2.4.0-structure (section 3.1), and its forerunners. */
const VERSIONS = [2, 3, 4];
const HEADER_BYTES = 10;
const FOOTER_BYTES = 10;
const HAS_FOOTER = 0x10;

/** The length of all ID3v2 tags that a body begins with: tools that write tags put theirs before others. */
function id3Lengths(head: Buffer): number {
  let lengths = 0;
  for (let length = id3Length(head); length > 0; length = id3Length(head.subarray(lengths)))
    lengths += length;
  return lengths;
}

/** The whole length of the ID3v2 tag that a body begins with; 0 where it begins with none. */
function id3Length(head: Buffer): number {
  if (head.length < HEADER_BYTES || head.toString('latin1', 0, 3) !== 'ID3') return 0;
  const sizes = head.subarray(6, HEADER_BYTES);
  const valid =
    VERSIONS.includes(head.readUInt8(3)) && head.readUInt8(4) < 0xff && sizes.every((byte) => byte < 0x80);
  if (!valid) return 0;
  // Its four size bytes hold 7 bits each.
  const size = sizes.reduce((sum, byte) => sum * 128 + byte, 0);
  return HEADER_BYTES + size + ((head.readUInt8(5) & HAS_FOOTER) === 0 ? 0 : FOOTER_BYTES);
}
