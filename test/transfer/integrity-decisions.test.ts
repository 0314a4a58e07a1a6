import { randomBytes } from 'node:crypto';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { beforeEach, describe, expect, it } from 'vitest';
import { isVoicemailError, type VoicemailError } from '../../src/domain/errors.ts';
import { ARCHIVE_KINDS } from '../support/archive-stores.ts';
import { wav, wavOf } from '../support/audio.ts';
import { BASE, CONTAINER_FILES, fixture } from '../support/irregular-recordings.ts';
import { type Handler, head, inTurn, respond, serve } from '../support/media-server.ts';
import { transferParts } from '../support/transfer-fixture.ts';
import type { TransferRun } from '../support/transfer-harness.ts';

const HALF = BASE.subarray(0, 12_022);

/** The recording with other sizes in its header. */
function claiming(changes: { riff?: number; data?: number }): Buffer {
  const bytes = Buffer.from(BASE);
  const dataAt = bytes.indexOf('data') + 4;
  bytes.writeUInt32LE((bytes.readUInt32LE(4) + (changes.riff ?? 0)) >>> 0, 4);
  bytes.writeUInt32LE((bytes.readUInt32LE(dataAt) + (changes.data ?? 0)) >>> 0, dataAt);
  return bytes;
}

function withSizes(size: number): Buffer {
  const bytes = Buffer.from(BASE);
  bytes.writeUInt32LE(size, 4);
  bytes.writeUInt32LE(size, bytes.indexOf('data') + 4);
  return bytes;
}

const LONGEST = claiming({ riff: 960_000, data: 960_000 });
const RECORDED_FILES = [...CONTAINER_FILES, 'ffmpeg-pipe.wav'];

describe.each(ARCHIVE_KINDS)('what is sure of a recording in the archive (%s)', (kind) => {
  const transfers = transferParts(kind);
  let key = '';
  beforeEach(() => {
    ({ key } = transfers);
  });

  const run = (options: Partial<TransferRun> = {}) =>
    transfers.harness.run({ key, urls: [`${transfers.server.origin}/voicemail`], ...options });

  /** Runs the transfer, checks that exactly these bytes are in the archive, and returns their integrity. */
  async function archived(bytes: Buffer, options: Partial<TransferRun> = {}) {
    const result = await run(options);
    expect((await transfers.archive.get(transfers.archive.store.fullKey(key))).equals(bytes)).toBe(true);
    expect(result.integrity.notes.length > 0).toBe(result.integrity.state === 'suspect');
    return result.integrity.state;
  }

  async function failed(options: Partial<TransferRun> = {}): Promise<VoicemailError> {
    const outcome: unknown = await run(options).catch((error: unknown) => error);
    if (!isVoicemailError(outcome)) throw new Error('no VoicemailError', { cause: outcome });
    expect(await transfers.archive.list()).not.toContain(transfers.archive.store.fullKey(key));
    return outcome;
  }

  describe('a recording with its length', () => {
    it.each(RECORDED_FILES)('a recording with its length is verified: %s', async (name) => {
      transfers.server.handle(serve(fixture(name)));
      expect(await archived(fixture(name))).toBe('verified');
      expect(transfers.server.requests).toHaveLength(1);
    });

    it.each([
      ['sizes of 0xFFFFFFFF', withSizes(0xffffffff)],
      ['sizes of 0', withSizes(0)],
      ['no samples', wav(Buffer.alloc(0))],
    ])('a WAV with its length and %s is verified', async (_name, recording) => {
      transfers.server.handle(serve(recording));
      expect(await archived(recording)).toBe('verified');
    });

    it('a WAV with its length whose RIFF size is nonsense is archived at once', async () => {
      const recording = claiming({ riff: 2 ** 30 });
      transfers.server.handle(serve(recording));
      await archived(recording);
      expect(transfers.server.requests).toHaveLength(1);
    });

    it('a recording with its length in no known container is archived at once as suspect', async () => {
      const recording = Buffer.concat([Buffer.from([1, 2, 3]), randomBytes(1000)]);
      transfers.server.handle(serve(recording));
      expect(await archived(recording)).toBe('suspect');
      expect(transfers.server.requests).toHaveLength(1);
    });

    it.each([
      ['44 bytes', claiming({ data: 44 })],
      ['the longest message', LONGEST],
    ])(
      'a WAV that claims more, by %s, is suspect once it has been polled long enough',
      async (_name, recording) => {
        transfers.server.handle(serve(recording));
        expect(await failed()).toMatchObject({ code: 'RECORDING_TRUNCATED', retryable: true });
        expect(transfers.server.requests).toHaveLength(4);
        expect(await archived(recording, { settleDoubt: true })).toBe('suspect');
      },
    );

    it('a recording that came cut twice is archived whole when it comes whole, however late', async () => {
      for (const settleDoubt of [false, true]) {
        key = `session/cut-${settleDoubt}`;
        transfers.server.handle(inTurn(respond(200, HALF), respond(200, HALF), respond(200, BASE)));
        expect(await archived(BASE, { settleDoubt })).toBe('verified');
      }
    });

    it('a growing recording is not archived while it has not been polled long enough', async () => {
      let grown = 4000;
      transfers.server.handle((request, reply) => {
        grown += 1000;
        return respond(200, BASE.subarray(0, grown))(request, reply);
      });
      expect(await failed()).toMatchObject({ code: 'RECORDING_TRUNCATED', retryable: true });
      transfers.server.handle(respond(200, BASE));
      expect(await archived(BASE)).toBe('verified');
    });

    it('a recording with its length and missing bytes is never archived, however late', async () => {
      transfers.server.handle(
        serve(BASE, { breaks: Array.from({ length: 50 }, () => 9000), breakBy: 'end' }),
      );
      expect(await failed({ settleDoubt: true })).toMatchObject({ code: 'RECORDING_TRUNCATED' });
    });
  });

  describe('a recording without a length', () => {
    it.each([...RECORDED_FILES, 'base.wav'])(
      'a recording without a length is unverified at least: %s',
      async (name) => {
        transfers.server.handle(serve(fixture(name), { framing: 'close' }));
        expect(await archived(fixture(name))).toMatch(/^(un)?verified$/);
      },
    );

    it('a recording without a length is unverified after two equal downloads', async () => {
      const recording = fixture('amr-nb.amr');
      transfers.server.handle(serve(recording, { framing: 'close' }));
      expect(await archived(recording)).toBe('unverified');
      expect(transfers.server.requests).toHaveLength(2);
    });

    it('a recording without a length is the longest one where connections broke', async () => {
      const recording = fixture('amr-nb.amr');
      const breaks = [500, 600, 700].map((at) => Math.min(at, recording.length - 1));
      transfers.server.handle(serve(recording, { framing: 'close', breaks, breakBy: 'end' }));
      expect(await archived(recording)).toBe('unverified');
    });

    it('a recording without a length is not the shorter one that came twice after a longer one', async () => {
      const recording = fixture('amr-nb.amr');
      const cut: Handler = serve(recording.subarray(0, 600), { framing: 'close' });
      const whole = serve(recording, { framing: 'close' });
      transfers.server.handle(inTurn(cut, whole, cut, cut, whole));
      expect(await archived(recording)).toBe('unverified');
      expect(transfers.server.requests).toHaveLength(5);
    });

    it('a recording without a length waits where every download brings other bytes, and is suspect in the end', async () => {
      const sent: Buffer[] = [];
      transfers.server.handle((request, reply) => {
        sent.push(Buffer.concat([Buffer.from([1, 2, 3]), randomBytes(1000)]));
        return serve(sent.at(-1) ?? BASE, { framing: 'close' })(request, reply);
      });
      expect(await failed()).toMatchObject({ code: 'RECORDING_TRUNCATED', retryable: true });
      const result = await run({ settleDoubt: true });
      expect(result.integrity.state).toBe('suspect');
      expect(
        (await transfers.archive.get(transfers.archive.store.fullKey(key))).equals(sent.at(-1) ?? BASE),
      ).toBe(true);
    });

    it('a recording without a length waits while its container says that it is cut, however often it comes', async () => {
      transfers.server.handle(serve(HALF, { framing: 'close' }));
      expect(await failed()).toMatchObject({ code: 'RECORDING_TRUNCATED', retryable: true });
      transfers.server.handle(serve(BASE, { framing: 'close' }));
      expect(await archived(BASE)).toBe('verified');
    });
  });

  describe('an unrequested content coding', () => {
    it.each([
      ['gzip', gzipSync(BASE)],
      ['x-gzip', gzipSync(BASE)],
      ['deflate', deflateSync(BASE)],
      ['Deflate', deflateRawSync(BASE)],
      ['br', brotliCompressSync(BASE)],
      ['zstd', zstdCompressSync(BASE)],
      ['aws-chunked, gzip', gzipSync(BASE)],
      ['gzip, gzip', gzipSync(gzipSync(BASE))],
    ])('an unrequested content coding is decoded: %s', async (coding, body) => {
      transfers.server.handle(respond(200, body, { 'content-encoding': coding }));
      expect(await archived(BASE)).toBe('verified');
      transfers.server.handle(serve(body, { framing: 'chunks', headers: { 'content-encoding': coding } }));
      await archived(BASE);
    });

    it.each(['binary', 'base64', 'identity', 'aws-chunked', 'utf-8', 'gzip', 'br', 'deflate', 'zstd'])(
      'an unrequested content coding over plain bytes is ignored: %s',
      async (coding) => {
        transfers.server.handle(respond(200, BASE, { 'content-encoding': coding }));
        expect(await archived(BASE)).toBe('verified');
      },
    );

    it('a download with an unrequested content coding begins at the first byte again when it breaks', async () => {
      const large = wavOf(600_000);
      const headers = { 'content-encoding': 'gzip' };
      transfers.server.handle(
        serve(gzipSync(large), { etag: '"v1"', ranges: true, breaks: [200_000], breakBy: 'end', headers }),
      );
      expect(await archived(large)).toBe('verified');
      expect(transfers.server.requests.map(({ rangeFrom }) => rangeFrom)).toEqual([undefined, undefined]);
    });

    it('a download that names a content coding without one is resumed where it stopped when it breaks', async () => {
      const large = wavOf(600_000);
      const headers = { 'content-encoding': 'gzip' };
      transfers.server.handle(
        serve(large, { etag: '"v1"', ranges: true, breaks: [300_000], breakBy: 'end', headers }),
      );
      expect(await archived(large)).toBe('verified');
      const [first, second, ...others] = transfers.server.requests.map(({ rangeFrom }) => rangeFrom);
      expect([first, others]).toEqual([undefined, []]);
      // What was still on its way between socket and decoder is fetched again.
      expect(second).toBeGreaterThan(0);
      expect(second).toBeLessThanOrEqual(300_000);
    });

    it('a recording with an unrequested content coding is limited in its decoded size', async () => {
      await transfers.use({ maxRecordingBytes: 1_000_000 });
      const bomb = gzipSync(wav(Buffer.alloc(50_000_000)));
      expect(bomb.length).toBeLessThan(100_000);
      transfers.server.handle(respond(200, bomb, { 'content-encoding': 'gzip' }));
      expect(await failed()).toMatchObject({ code: 'RECORDING_TOO_LARGE', retryable: false });
      expect(transfers.server.requests).toHaveLength(1);
    });

    it('a content coding that swallows its input without a byte of output is limited too', async () => {
      await transfers.use({ maxRecordingBytes: 1_000_000 });
      // A gzip header whose file name never ends.
      const endless = Buffer.concat([
        Buffer.from('1f8b0808000000000003', 'hex'),
        Buffer.alloc(3_000_000, 'a'),
      ]);
      transfers.server.handle(serve(endless, { framing: 'chunks', headers: { 'content-encoding': 'gzip' } }));
      expect(await failed()).toMatchObject({ code: 'RECORDING_TOO_LARGE' });
    });

    it('a recording whose encoded bytes are cut waits, and is kept encoded once it has been polled long enough', async () => {
      const cut = gzipSync(BASE).subarray(0, -100);
      transfers.server.handle(respond(200, cut, { 'content-encoding': 'gzip' }));
      expect(await failed()).toMatchObject({ code: 'RECORDING_TRUNCATED', retryable: true });
      expect(await archived(cut, { settleDoubt: true })).toBe('suspect');
      key = `${key}-whole`;
      transfers.server.handle(
        inTurn(
          respond(200, cut, { 'content-encoding': 'gzip' }),
          respond(200, gzipSync(BASE), { 'content-encoding': 'gzip' }),
        ),
      );
      expect(await archived(BASE)).toBe('verified');
    });

    it('an encoded page is refused as a page', async () => {
      transfers.server.handle(
        respond(200, gzipSync('<!doctype html><p>Maintenance'), { 'content-encoding': 'gzip' }),
      );
      expect(await failed()).toMatchObject({ code: 'RECORDING_NOT_AUDIO', retryable: true });
    });
  });

  describe('an unrequested 206', () => {
    const last = BASE.length - 1;
    const part =
      (range: string, bytes: Buffer, headers: Readonly<Record<string, string>> = {}): Handler =>
      (request, reply) =>
        respond(206, bytes, { 'content-range': range, ...headers })(request, reply);

    it('an unrequested 206 is verified where the part is the whole', async () => {
      transfers.server.handle(part(`bytes 0-${last}/${BASE.length}`, BASE));
      expect(await archived(BASE)).toBe('verified');
      expect(transfers.server.requests).toHaveLength(1);
    });

    it('the rest of an unrequested 206 is requested', async () => {
      const etag = { etag: '"v1"' };
      transfers.server.handle((request, reply) => {
        const from = request.rangeFrom ?? 0;
        const to = Math.min(from + 9_999, last);
        return part(`bytes ${from}-${to}/${BASE.length}`, BASE.subarray(from, to + 1), etag)(request, reply);
      });
      expect(await archived(BASE)).toBe('verified');
      expect(transfers.server.requests.map(({ rangeFrom }) => rangeFrom)).toEqual([
        undefined,
        10_000,
        20_000,
      ]);
    });

    it('an unrequested 206 with another part is requested again', async () => {
      transfers.server.handle(
        inTurn(part(`bytes 100-${last}/${BASE.length}`, BASE.subarray(100)), respond(200, BASE)),
      );
      expect(await archived(BASE)).toBe('verified');
    });

    it.each(['bytes 0-24043/*', 'none', `bytes 0-${'9'.repeat(400)}/${'9'.repeat(400)}`])(
      'an unrequested 206 is judged by its container where the range is %s',
      async (range) => {
        transfers.server.handle(part(range, BASE));
        expect(await archived(BASE)).toBe('verified');
      },
    );
  });

  describe('an unusual host', () => {
    it('a host may send 64 KB of headers', async () => {
      const cookies = Object.fromEntries(
        Array.from({ length: 64 }, (_, index) => [`x-padding-${index}`, 'p'.repeat(1000)]),
      );
      transfers.server.handle(respond(200, BASE, cookies));
      expect(await archived(BASE)).toBe('verified');
    });

    it.each(['315360000', 'Fri, 25 Nov 2039 00:00:00 GMT', '9'.repeat(60)])(
      'a host that asks for a pause of years (%s) is given an hour at most',
      async (retryAfter) => {
        transfers.server.handle(respond(503, '', { 'retry-after': retryAfter }));
        const error = await failed();
        expect(error).toMatchObject({
          code: 'DOWNLOAD_FAILED',
          retryAfterMs: 3_600_000,
          host: `127.0.0.1:${transfers.server.port}`,
        });
      },
    );

    it('a host that asks for a pause until an invalid date is polled again', async () => {
      transfers.server.handle(inTurn(respond(503, '', { 'retry-after': 'soon' }), respond(200, BASE)));
      expect(await archived(BASE)).toBe('verified');
    });

    it('a host that sends too slowly is cut off once its average is too low', async () => {
      await transfers.use({ minBytesPerSecond: 10_000_000_000, minRateGraceMs: 0 });
      transfers.server.handle(async (_request, reply) => {
        await reply.write(head(200, { 'content-length': 1_000_000 }));
        for (let sent = 0; sent < 1_000_000; sent += 5000) await reply.write(Buffer.alloc(5000));
      });
      expect(await failed()).toMatchObject({
        code: 'DOWNLOAD_FAILED',
        retryable: true,
        message: expect.stringMatching(/too slow: \d+ bytes in \d+ s, less than .* DOWNLOAD_MIN_RATE/),
      });
      expect(transfers.server.requests).toHaveLength(1);
    });
  });

  describe('a data: URI', () => {
    it.each([
      ['base64', `data:audio/wav;base64,${BASE.toString('base64')}`],
      ['base64, escaped', `data:audio/wav;base64,${encodeURIComponent(BASE.toString('base64'))}`],
      ['base64 without a type', `DATA:;base64,${BASE.toString('base64')}`],
      ['percent', `data:audio/wav,${BASE.toString('hex').replace(/../g, '%$&')}`],
    ])('a data: URI is decoded from %s', async (_name, url) => {
      expect(await archived(BASE, { urls: [url] })).toBe('verified');
      expect(transfers.server.requests).toHaveLength(0);
    });

    it('a data: URI names no bytes of itself as its source', async () => {
      const { source } = await run({ urls: [`data:audio/wav;base64,${BASE.toString('base64')}`] });
      expect(source).toEqual({ host: 'data', path: '' });
    });

    it.each([
      ['nothing in it', 'data:audio/wav;base64,', 'RECORDING_EMPTY', true],
      ['no comma', 'data:audio/wav;base64', 'RECORDING_NOT_AUDIO', true],
      ['a page', 'data:text/html,<html>no</html>', 'RECORDING_NOT_AUDIO', true],
      ['too much', `data:audio/wav;base64,${'A'.repeat(60_000)}`, 'RECORDING_TOO_LARGE', false],
    ])('a data: URI with %s is refused', async (_name, url, code, retryable) => {
      await transfers.use({ maxRecordingBytes: 30_000 });
      expect(await failed({ urls: [url] })).toMatchObject({ code, retryable });
    });
  });
});
