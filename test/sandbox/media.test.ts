import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeAudio } from '../../src/sandbox/audio/audio.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import type { MediaFault, RecordingSpec } from '../../src/sandbox/spec.ts';
import { freshUrl } from '../support/sandbox-caller.ts';

let sandbox: Sandbox;
let clock = Date.now();

beforeEach(async () => {
  clock = Date.now();
  sandbox = await startSandbox({ now: () => clock });
});

afterEach(async () => {
  await sandbox.close();
});

async function oneRecording(recording: RecordingSpec = {}): Promise<{ sessionId: string; url: string }> {
  const sessionId = sandbox.addSession({ recordings: [recording] });
  return { sessionId, url: await freshUrl(sandbox, sessionId) };
}

function served(sessionId: string): Buffer {
  const audio = sandbox.session(sessionId).recordings[0]?.audio;
  if (audio === undefined) throw new Error('the session has no recording');
  return audio.slice(0, audio.bytes);
}

async function bodyOf(response: Response): Promise<Buffer> {
  return Buffer.from(await response.arrayBuffer());
}

/** Everything that arrives, byte for byte, and how the connection ended. */
async function raw(url: string): Promise<{ head: string; body: Buffer; end: string }> {
  const { port, hostname, pathname, search } = new URL(url);
  const socket = createConnection(Number(port), hostname);
  socket.write(`GET ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  const end = await Promise.race([
    once(socket, 'end').then(() => 'in order'),
    new Promise<string>((resolve) => socket.on('error', (error) => resolve(error.message))),
  ]);
  socket.destroy();
  const all = Buffer.concat(chunks);
  const split = all.indexOf('\r\n\r\n');
  return { head: all.toString('latin1', 0, split).toLowerCase(), body: all.subarray(split + 4), end };
}

describe('a signed URL', () => {
  test('a signed URL delivers the recording with length and validators', async () => {
    const { sessionId, url } = await oneRecording({ seconds: 2 });
    const response = await fetch(url);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('audio/wav');
    expect(response.headers.get('content-length')).toBe('32044');
    expect(response.headers.get('etag')).toMatch(/^"[^"]+"$/);
    expect(Date.parse(response.headers.get('last-modified') ?? '')).toBeGreaterThan(0);
    const body = await bodyOf(response);
    expect(body.equals(served(sessionId))).toBe(true);
    const sha256 = createHash('sha256').update(body).digest('hex');
    expect(sandbox.session(sessionId).recordings[0]?.sha256()).toBe(sha256);
  });

  test('a signed URL is a new one each time, for the same path, with paddings of all kinds', async () => {
    const sessionId = sandbox.addSession();
    const urls = [];
    for (let i = 0; i < 8; i++) urls.push(await freshUrl(sandbox, sessionId));
    expect(new Set(urls).size).toBe(8);
    expect(new Set(urls.map((url) => new URL(url).pathname)).size).toBe(1);
    expect(urls.map((url) => /[A-Za-z0-9+/]([=$]*)$/.exec(url)?.[1])).toEqual(
      [...'0123', ...'0123'].map((i) => ['=', '$', '$$', ''][Number(i)]),
    );
    for (const url of urls) expect((await fetch(url, { method: 'HEAD' })).status).toBe(200);
  });

  test('a signed URL expires at its time, and a running download is not cut by that', async () => {
    const { sessionId, url } = await oneRecording({ bytes: 4_000_000 });
    expect(Number(new URL(url).searchParams.get('e'))).toBe(Math.floor(clock / 1000 + 300));
    const running = await fetch(url);
    clock += 300_000;
    expect((await fetch(url)).status).toBe(403);
    expect((await bodyOf(running)).length).toBe(4_000_000);
    sandbox.configure({ refusedStatus: 410 });
    expect((await fetch(url)).status).toBe(410);
    expect((await fetch(await freshUrl(sandbox, sessionId), { method: 'HEAD' })).status).toBe(200);
  });

  test('a signed URL is valid until the last millisecond', async () => {
    clock = 1_800_000_000_000;
    const { url } = await oneRecording();
    clock += 299_999;
    expect((await fetch(url, { method: 'HEAD' })).status).toBe(200);
    clock += 1;
    expect((await fetch(url, { method: 'HEAD' })).status).toBe(403);
  });

  test('several signed URLs in a row can have expired already', async () => {
    const { sessionId, url } = await oneRecording({ lifetimeSeconds: [-10, -10, 60] });
    expect((await fetch(url)).status).toBe(403);
    expect((await fetch(await freshUrl(sandbox, sessionId))).status).toBe(403);
    expect((await fetch(await freshUrl(sandbox, sessionId), { method: 'HEAD' })).status).toBe(200);
    expect((await fetch(await freshUrl(sandbox, sessionId), { method: 'HEAD' })).status).toBe(200);
  });

  test('a signed URL can be revoked with all others', async () => {
    const { sessionId, url } = await oneRecording();
    sandbox.revokeUrls();
    expect((await fetch(url)).status).toBe(403);
    expect((await fetch(await freshUrl(sandbox, sessionId), { method: 'HEAD' })).status).toBe(200);
    expect(sandbox.violations).toEqual([]);
  });

  test.each<[string, (url: string) => string]>([
    ['with a later expiry', (url) => url.replace(/e=(\d)/, 'e=9$1')],
    ['with another nonce', (url) => url.replace(/n=\d/, 'n=9')],
    ['with a shorter signature', (url) => url.replace(/s=./, 's=')],
    ['with something added', (url) => `${url}&x=1`],
    ['with its parameters in another order', (url) => url.replace(/(e=\d+)&(n=\d+)/, '$2&$1')],
    ['without its query', (url) => url.replace(/\?.*/, '')],
  ])('a signed URL is refused %s', async (_, change) => {
    const { url } = await oneRecording();
    expect((await fetch(change(url))).status).toBe(403);
    expect(sandbox.violations).toEqual([]);
  });

  test('a signed URL is refused in another spelling, which is recorded', async () => {
    const sessionId = sandbox.addSession();
    const urls = [];
    for (let i = 0; i < 4; i++) urls.push(await freshUrl(sandbox, sessionId));
    const withDollar = urls.find((url) => url.endsWith('$')) ?? '';
    expect((await fetch(withDollar.replace(/\$+$/, (dollars) => encodeURIComponent(dollars)))).status).toBe(
      403,
    );
    expect(sandbox.violations).toEqual([expect.stringContaining('byte for byte')]);
    expect((await fetch(withDollar, { method: 'HEAD' })).status).toBe(200);
  });

  test.each(['auth', 'authorization'])(
    'a signed URL is refused together with the header %s, which is recorded',
    async (name) => {
      const { url } = await oneRecording();
      expect((await fetch(url, { headers: { [name]: 'secret' } })).status).toBe(400);
      expect(sandbox.violations).toEqual([expect.stringContaining('credentials')]);
      expect(sandbox.violations.join()).not.toContain('secret');
    },
  );

  test('a signed URL names the configured host', async () => {
    const other = await startSandbox({ mediaHost: 'localhost' });
    expect(await freshUrl(other, other.addSession())).toContain(`http://localhost:${other.port}/api/`);
    await other.close();
  });

  test('a signed URL of a recording that does not exist is answered 404', async () => {
    expect((await fetch(`${sandbox.url}/api/getMediaStream/x.wav?e=1&n=1&s=x`)).status).toBe(404);
  });
});

describe('redirects', () => {
  test('a redirect leads to a storage with signed URLs of its own', async () => {
    const { sessionId, url } = await oneRecording({ redirectTo: 'storage' });
    const first = await fetch(url, { redirect: 'manual' });
    expect(first.status).toBe(302);
    const location = first.headers.get('location') ?? '';
    expect(location).toMatch(
      /\/storage\/0\/api\/.*[?&]X-Amz-Date=\d{8}T\d{6}Z&X-Amz-Expires=300&.*X-Amz-Signature=[0-9a-f]{64}$/,
    );
    expect((await bodyOf(await fetch(location))).equals(served(sessionId))).toBe(true);
    expect(sandbox.calls.map((call) => call.route)).toEqual(['voicemail', 'media', 'storage']);
    expect((await fetch(location.replace('%2F', '/'))).status).toBe(403);
    expect(sandbox.violations).toHaveLength(1);
    clock += 301_000;
    expect((await fetch(location)).status).toBe(403);
  });

  test('redirects can be many, endless, or lead anywhere', async () => {
    const far = await oneRecording({ redirectTo: 'storage', redirectHops: 5 });
    expect((await bodyOf(await fetch(far.url))).equals(served(far.sessionId))).toBe(true);
    expect(sandbox.calls.filter((call) => call.status === 302)).toHaveLength(5);
    const endless = await oneRecording({ redirectTo: 'itself' });
    expect((await fetch(endless.url, { redirect: 'manual' })).headers.get('location')).toBe(endless.url);
    const away = await oneRecording({ redirectTo: 'http://169.254.169.254/latest' });
    const answer = await fetch(away.url, { redirect: 'manual' });
    expect(answer.headers.get('location')).toBe('http://169.254.169.254/latest');
  });
});

describe('ranges of a recording at the sandbox', () => {
  test.each([
    ['bytes=0-0', 206, 0, 1],
    ['bytes=100-199', 206, 100, 200],
    ['bytes=48000-', 206, 48_000, 48_044],
    ['bytes=-44', 206, 48_000, 48_044],
    ['bytes=48000-99999', 206, 48_000, 48_044],
    ['bytes=-99999', 206, 0, 48_044],
    ['bytes=1-2,4-5', 200, 0, 48_044],
    ['bytes=5-2', 200, 0, 48_044],
    ['bytes=-', 200, 0, 48_044],
    ['items=0-1', 200, 0, 48_044],
  ])('the range %s is answered %d', async (range, status, start, end) => {
    const { sessionId, url } = await oneRecording();
    const response = await fetch(url, { headers: { range } });
    expect(response.status).toBe(status);
    expect(response.headers.get('content-length')).toBe(String(end - start));
    expect(response.headers.get('content-range')).toBe(
      status === 206 ? `bytes ${start}-${end - 1}/48044` : null,
    );
    expect((await bodyOf(response)).equals(served(sessionId).subarray(start, end))).toBe(true);
    expect(sandbox.calls.at(-1)?.range).toBe(range);
  });

  test.each(['bytes=48044-', 'bytes=99999-100000', 'bytes=-0'])(
    'the range %s is answered 416',
    async (range) => {
      const { url } = await oneRecording();
      const response = await fetch(url, { headers: { range } });
      expect([response.status, response.headers.get('content-range')]).toEqual([416, 'bytes */48044']);
    },
  );

  test('a range is served only under the validator it was requested with', async () => {
    const { url } = await oneRecording();
    const { headers } = await fetch(url, { method: 'HEAD' });
    const status = async (condition: string | null) =>
      (await fetch(url, { headers: { range: 'bytes=5-', 'if-range': condition ?? '' } })).status;
    expect(await status(headers.get('etag'))).toBe(206);
    expect(await status(headers.get('last-modified'))).toBe(206);
    expect(await status('"other"')).toBe(200);
    expect(await status(`W/${headers.get('etag')}`)).toBe(200);
  });

  test('a server can lack ranges, and validators too', async () => {
    const { url } = await oneRecording({ ranges: false, etag: 'none', lastModified: false });
    const response = await fetch(url, { headers: { range: 'bytes=5-' } });
    expect(response.status).toBe(200);
    for (const name of ['accept-ranges', 'etag', 'last-modified'])
      expect(response.headers.get(name)).toBeNull();
    const weak = await oneRecording({ etag: 'weak' });
    const etag = (await fetch(weak.url, { method: 'HEAD' })).headers.get('etag') ?? '';
    expect(etag).toMatch(/^W\/"/);
    const resumed = await fetch(weak.url, { headers: { range: 'bytes=5-', 'if-range': etag } });
    expect(resumed.status).toBe(200);
  });

  test('a range can be ignored once, or answered from another place', async () => {
    const { sessionId, url } = await oneRecording({
      mediaFaults: [{ ignoreRange: true }, { shiftRangeBy: 10 }],
    });
    const headers = { range: 'bytes=100-' };
    expect((await fetch(url, { headers })).status).toBe(200);
    const shifted = await fetch(url, { headers });
    expect(shifted.headers.get('content-range')).toBe('bytes 110-48043/48044');
    expect((await bodyOf(shifted)).equals(served(sessionId).subarray(110))).toBe(true);
    expect((await fetch(url, { headers })).headers.get('content-range')).toBe('bytes 100-48043/48044');
  });
});

describe('the framing of a recording at the sandbox', () => {
  test.each([
    ['length', 'content-length: 48044', undefined],
    ['chunked', 'transfer-encoding: chunked', '0\r\n\r\n'],
    ['close', 'connection: close', undefined],
  ] as const)('a recording can be framed by %s', async (framing, header, ending) => {
    const { sessionId, url } = await oneRecording({ framing });
    const { head, body } = await raw(url);
    expect(head).toContain(header);
    expect(head.includes('content-length')).toBe(framing === 'length');
    expect(head.includes('transfer-encoding')).toBe(framing === 'chunked');
    if (ending === undefined) expect(body.equals(served(sessionId))).toBe(true);
    else expect(body.toString('latin1').endsWith(ending)).toBe(true);
    expect((await bodyOf(await fetch(url))).equals(served(sessionId))).toBe(true);
  });
});

describe('faults of downloads from the sandbox', () => {
  async function faulty(fault: MediaFault, recording: RecordingSpec = {}) {
    return oneRecording({ ...recording, mediaFaults: [fault] });
  }

  test('a download breaks where it was configured to, and only as often', async () => {
    const { sessionId, url } = await faulty({ breakAfterBytes: 1_000_000, times: 2 }, { bytes: 3_000_000 });
    for (let i = 0; i < 2; i++) {
      const { head, body, end } = await raw(url);
      expect(head).toContain('content-length: 3000000');
      expect(body.equals(served(sessionId).subarray(0, 1_000_000))).toBe(true);
      expect(end).toBe('in order');
    }
    expect((await raw(url)).body.equals(served(sessionId))).toBe(true);
    await sandbox.waitFor((calls) => calls.every(({ state }) => state !== 'open'));
    expect(sandbox.calls.slice(1).map(({ state, bytesSent }) => [state, bytesSent])).toEqual([
      ['broken', 1_000_000],
      ['broken', 1_000_000],
      ['done', 3_000_000],
    ]);
  });

  test('a HEAD request uses up no fault', async () => {
    const { url } = await faulty({ status: 500 });
    expect((await fetch(url, { method: 'HEAD' })).status).toBe(200);
    expect((await fetch(url)).status).toBe(500);
  });

  test('a download can break before the first byte, and by reset', async () => {
    const nothing = await faulty({ breakAfterBytes: 0 });
    expect((await raw(nothing.url)).body.length).toBe(0);
    const reset = await faulty({ breakAfterBytes: 1000, breakBy: 'reset' });
    expect((await raw(reset.url)).end).toContain('ECONNRESET');
  });

  test('a download can lack its last chunk', async () => {
    const { url } = await faulty({ framing: 'chunked', breakAfterBytes: 48_044 });
    const { body } = await raw(url);
    expect(body.toString('latin1').endsWith('0\r\n\r\n')).toBe(false);
    expect(body.length).toBeGreaterThan(48_044);
  });

  test('a body without length can end too early, which no client can see', async () => {
    const { url } = await faulty({ framing: 'close', breakAfterBytes: 1000 });
    expect((await bodyOf(await fetch(url))).length).toBe(1000);
  });

  test('a file can be shorter, or empty, with headers that match', async () => {
    const short = await faulty({ shortBy: 100 });
    const response = await fetch(short.url);
    expect(response.headers.get('content-length')).toBe('47944');
    expect((await bodyOf(response)).length).toBe(47_944);
    const empty = await fetch((await faulty({ shortBy: Number.POSITIVE_INFINITY })).url);
    expect([empty.status, (await bodyOf(empty)).length]).toEqual([200, 0]);
  });

  test('a download can stall until the caller gives up', async () => {
    const { url } = await faulty({ stallAfterBytes: 1000 });
    const caller = new AbortController();
    const response = await fetch(url, { signal: caller.signal });
    const body = response.arrayBuffer();
    await sandbox.waitFor((calls) => calls.at(-1)?.bytesSent === 1000);
    caller.abort();
    await expect(body).rejects.toThrow('aborted');
    await sandbox.waitFor((calls) => calls.at(-1)?.state === 'broken');
  });

  test('a download can be slow, in small portions', async () => {
    const { sessionId, url } = await faulty({ bytesPerSecond: 200_000 });
    const seen = new Set<number>();
    const done = sandbox.waitFor((calls) => {
      const download = calls.find((one) => one.route === 'media');
      seen.add(download?.bytesSent ?? 0);
      return download?.state === 'done';
    });
    expect((await bodyOf(await fetch(url))).equals(served(sessionId))).toBe(true);
    await done;
    expect([...seen].filter((bytes) => bytes > 0 && bytes < 48_044)).toEqual([
      10_000, 20_000, 30_000, 40_000,
    ]);
  });

  test('a download can be answered with an error, or after a while', async () => {
    const { url } = await faulty({ status: 503, retryAfter: 3 });
    const response = await fetch(url);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '3']);
    expect((await fetch((await faulty({ delayMs: 1 })).url)).status).toBe(200);
  });

  test.each([
    ['html', '<!DOCTYPE html>'],
    ['xml', '<?xml'],
    ['json', '{"errors"'],
  ] as const)('a download can deliver %s in the place of audio', async (page, beginning) => {
    const lying = await fetch((await faulty({ page })).url);
    expect([lying.status, lying.headers.get('content-type')]).toEqual([200, 'audio/wav']);
    expect((await lying.text()).startsWith(beginning)).toBe(true);
    const labelled = await fetch((await faulty({ page, contentType: 'text/html' })).url);
    expect(labelled.headers.get('content-type')).toBe('text/html');
  });

  test('a URL can expire at the moment of its download', async () => {
    const { sessionId, url } = await faulty({ expireNow: true });
    const other = await oneRecording();
    expect((await fetch(url)).status).toBe(403);
    expect((await fetch(url)).status).toBe(403);
    expect((await fetch(other.url)).status).toBe(200);
    expect((await fetch(await freshUrl(sandbox, sessionId))).status).toBe(200);
  });

  test('another recording can be put in the place of one', async () => {
    const { sessionId, url } = await faulty({ replaced: true });
    const before = await fetch(url, { method: 'HEAD' });
    const old = served(sessionId);
    const after = await fetch(url, {
      headers: { range: 'bytes=100-', 'if-range': before.headers.get('etag') ?? '' },
    });
    expect(after.status).toBe(200);
    expect(after.headers.get('etag')).not.toBe(before.headers.get('etag'));
    expect(after.headers.get('last-modified')).not.toBe(before.headers.get('last-modified'));
    const body = await bodyOf(after);
    expect(body.length).toBe(old.length);
    expect(body.equals(old)).toBe(false);
    expect(body.equals(served(sessionId))).toBe(true);
  });
});

describe('the content of a recording at the sandbox', () => {
  test('the content of a recording can be of each format, of any bytes, or shared', async () => {
    const flac = await fetch((await oneRecording({ format: 'flac', seconds: 1 })).url);
    expect(flac.headers.get('content-type')).toBe('audio/flac');
    const own = await oneRecording({ content: Buffer.from('RIFF'), contentType: 'audio/x-wav' });
    const response = await fetch(own.url);
    expect([response.headers.get('content-type'), await response.text()]).toEqual(['audio/x-wav', 'RIFF']);
    const content = makeAudio('bin', 'x', { bytes: 12_345 });
    const shared = await fetch((await oneRecording({ content })).url);
    expect((await bodyOf(shared)).equals(content.slice(0, 12_345))).toBe(true);
  });

  test('the content of a recording is made no faster than it is read', async () => {
    const { url } = await oneRecording({ bytes: 500_000_000 });
    const response = await fetch(url);
    const reader = response.body?.getReader();
    await reader?.read();
    await sandbox.waitFor((calls) => (calls.at(-1)?.bytesSent ?? 0) > 0);
    await reader?.cancel();
    await sandbox.waitFor((calls) => calls.at(-1)?.state === 'broken');
    expect(sandbox.calls.at(-1)?.bytesSent).toBeLessThan(100_000_000);
  });

  test('content that cannot be made is reported, and stops nothing', async () => {
    const content = {
      contentType: 'audio/wav',
      bytes: 10,
      slice: () => {
        throw new Error('no such audio');
      },
    };
    const { url } = await oneRecording({ content });
    await expect(fetch(url).then((response) => response.text())).rejects.toThrow();
    expect(sandbox.violations).toEqual([expect.stringContaining('no such audio')]);
    expect((await fetch((await oneRecording()).url)).status).toBe(200);
  });
});
