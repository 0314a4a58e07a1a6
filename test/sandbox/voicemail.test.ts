import { SignJWT } from 'jose';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import type { MetadataFault } from '../../src/sandbox/spec.ts';
import { call, fetchAnswer, freshUrl, token } from '../support/sandbox-caller.ts';

let sandbox: Sandbox;
let clock = Date.now();

beforeEach(async () => {
  clock = Date.now();
  sandbox = await startSandbox({ now: () => clock });
});

afterEach(async () => {
  await sandbox.close();
  expect(sandbox.violations).toEqual([]);
});

async function error(response: Response): Promise<{ status: number; text: string }> {
  const { errors } = (await response.json()) as { errors: { msg: string; code: number }[] };
  expect(typeof errors[0]?.code).toBe('number');
  return { status: response.status, text: errors[0]?.msg ?? '' };
}

describe('the token of a call to the sandbox', () => {
  const now = () => Math.floor(Date.now() / 1000);
  const invalid = { status: 401, text: 'Invalid JWT token' };
  const wrongApp = { status: 401, text: 'Invalid SDK credentials' };

  test.each<[string, () => Promise<string>, object]>([
    ['none', async () => '', invalid],
    ['no token at all', async () => 'hello', invalid],
    ['behind the word Bearer', async () => `Bearer ${await token(sandbox)}`, invalid],
    ['signed with another secret', () => token(sandbox, {}, { secret: 'x'.repeat(32) }), invalid],
    [
      'signed with HS512',
      () => token(sandbox, {}, { secret: sandbox.clientSecret.padEnd(64), alg: 'HS512' }),
      invalid,
    ],
    ['expired', () => token(sandbox, { exp: now() - 60 }), invalid],
    ['good for more than an hour', () => token(sandbox, { exp: now() + 3700 }), invalid],
    ['not good yet', () => token(sandbox, { nbf: now() + 600 }), invalid],
    ['without exp', () => token(sandbox, { exp: undefined }), invalid],
    ['without jti', () => token(sandbox, { jti: undefined }), invalid],
    ['with an empty jti', () => token(sandbox, { jti: '' }), invalid],
    ['of another app', () => token(sandbox, { appId: 'cs-other' }), wrongApp],
    ['of no app', () => token(sandbox, { appId: undefined }), wrongApp],
  ])('a token is refused: %s', async (_, make, refusal) => {
    const sessionId = sandbox.addSession();
    expect(await error(await call(sandbox, sessionId, { auth: await make() }))).toEqual(refusal);
    expect(sandbox.session(sessionId).polls).toBe(0);
  });

  test('an unsigned token with alg none is refused', async () => {
    const [, payload] = (await token(sandbox)).split('.');
    const header = Buffer.from('{"alg":"none"}').toString('base64url');
    const response = await call(sandbox, sandbox.addSession(), { auth: `${header}.${payload}.` });
    expect(await error(response)).toEqual(invalid);
  });

  test('a token is accepted once', async () => {
    const sessionId = sandbox.addSession();
    const auth = await token(sandbox);
    expect((await call(sandbox, sessionId, { auth })).status).toBe(200);
    expect(await error(await call(sandbox, sessionId, { auth }))).toEqual(invalid);
  });

  test('a token is accepted again and without exp and jti where the app does not enforce them', async () => {
    sandbox.configure({ enforceJti: false });
    const sessionId = sandbox.addSession();
    const auth = await token(sandbox, { jti: undefined, exp: undefined });
    expect((await call(sandbox, sessionId, { auth })).status).toBe(200);
    expect((await call(sandbox, sessionId, { auth })).status).toBe(200);
  });

  test('a token is accepted with the other claims Kore knows, signed by another issuer', async () => {
    const auth = await new SignJWT({ appId: sandbox.clientId, sub: 'x', jti: 'one' })
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .setIssuer(sandbox.clientId)
      .setAudience('https://idproxy.kore.ai/authorize')
      .setIssuedAt()
      .setExpirationTime('5 minutes')
      .sign(Buffer.from(sandbox.clientSecret));
    expect((await call(sandbox, sandbox.addSession(), { auth })).status).toBe(200);
  });

  test('a token is refused after the secret was changed, without its scope, and for another bot', async () => {
    const sessionId = sandbox.addSession();
    sandbox.configure({ signingSecret: 'an unknown secret' });
    expect(await error(await call(sandbox, sessionId))).toEqual(invalid);
    sandbox.configure({ signingSecret: undefined, scopes: ['SmartAssist Analytics'] });
    expect(await error(await call(sandbox, sessionId))).toEqual({
      status: 401,
      text: 'Permission denied. Scope is incorrect!',
    });
    sandbox.configure({ scopes: ['SmartAssist Voicemail'] });
    expect(await error(await call(sandbox, sessionId, { botId: 'st-other' }))).toEqual(wrongApp);
    expect((await call(sandbox, sessionId)).status).toBe(200);
  });
});

describe('the answer of the sandbox', () => {
  test('the answer of the sandbox has the documented shape', async () => {
    const sessionId = makeSessionId(new Date('2025-02-10T17:34:26Z'), 'x');
    sandbox.addSession({ sessionId, transcription: ['Hi, this is voicemail testing.', 'Bye.'] });
    const answer = await fetchAnswer(sandbox, sessionId);
    expect(Object.keys(answer)).toEqual(['status', 'voicemail recording', 'transcriptions']);
    expect(answer.status).toBe('success');
    expect(answer['voicemail recording']).toEqual([
      {
        fileName: `voicemail_${sessionId}.wav`,
        fileUrl: expect.stringMatching(
          /^http:\/\/127\.0\.0\.1:\d+\/api\/getMediaStream\/smartassistrecording\/SANDBOX\/o-[^/]+\/st-[^/]+\/2025\/10-02-2025\/f-[0-9a-f-]{36}\.wav\?e=\d{10}&n=\d{10}&s=\S{40,46}$/,
        ),
      },
    ]);
    const [first, second] = answer.transcriptions ?? [];
    expect(first?.components).toMatchObject([
      { cT: 'text', data: { text: 'Hi, this is voicemail testing.' } },
    ]);
    expect(second?.components[0]?.data.text).toBe('Bye.');
    expect(first).toMatchObject({
      lang: 'en',
      author: { type: 'VOICEMAIL' },
      createdOn: '2025-02-10T17:34:26.000Z',
    });
    expect(first?.sessionId).toMatch(/^[0-9a-f]{24}$/);
    expect(first?.sessionId).not.toBe(sessionId);
    expect(first?.botId).not.toBe(sandbox.botId);
  });

  test('the answer of the sandbox has the transcript only if it was requested', async () => {
    const sessionId = sandbox.addSession({ transcription: 'x' });
    const response = await call(sandbox, sessionId, { query: `sessionId=${sessionId}` });
    expect(await response.json()).not.toHaveProperty('transcriptions');
  });

  test.each(['voicemail recording', 'voicemail_recording', 'recording'] as const)(
    'the answer of the sandbox has its recordings at "%s"',
    async (recordingsKey) => {
      const answer = await fetchAnswer(sandbox, sandbox.addSession({ recordingsKey, recordings: [{}, {}] }));
      expect(answer[recordingsKey]).toHaveLength(2);
    },
  );

  test('the answer of the sandbox goes through its statuses, and lists recordings with success alone', async () => {
    const sessionId = sandbox.addSession({ statuses: ['call_in_progress', 'media_in_progress', 'success'] });
    const seen = [];
    for (let i = 0; i < 4; i++) {
      const { status, 'voicemail recording': recordings } = await fetchAnswer(sandbox, sessionId);
      seen.push([status, recordings?.length]);
    }
    expect(seen).toEqual([
      ['call_in_progress', 0],
      ['media_in_progress', 0],
      ['success', 1],
      ['success', 1],
    ]);
  });

  test.each([
    ['empty', []],
    ['absent', undefined],
    ['null', null],
  ] as const)(
    'the answer of the sandbox has no recordings the first times (%s)',
    async (notReadyAs, expected) => {
      const sessionId = sandbox.addSession({ notReadyPolls: 2, notReadyAs });
      expect((await fetchAnswer(sandbox, sessionId))['voicemail recording']).toEqual(expected);
      expect((await fetchAnswer(sandbox, sessionId))['voicemail recording']).toEqual(expected);
      expect((await fetchAnswer(sandbox, sessionId))['voicemail recording']).toHaveLength(1);
    },
  );

  test('the answer of the sandbox has no transcript, or a late one by polls, or by time', async () => {
    const never = sandbox.addSession();
    const byPolls = sandbox.addSession({ transcription: { texts: ['x'], afterPolls: 2, language: 'de' } });
    const byTime = sandbox.addSession({ transcription: { texts: ['x'], afterMs: 60_000 } });
    const count = async (id: string) => (await fetchAnswer(sandbox, id)).transcriptions?.length;
    expect([await count(never), await count(never)]).toEqual([0, 0]);
    expect([await count(byPolls), await count(byPolls), await count(byPolls)]).toEqual([0, 0, 1]);
    expect((await fetchAnswer(sandbox, byPolls)).transcriptions?.[0]?.lang).toBe('de');
    expect(await count(byTime)).toBe(0);
    clock += 60_000;
    expect(await count(byTime)).toBe(1);
  });

  test('the answer of the sandbox can be changed at the last moment', async () => {
    const sessionId = sandbox.addSession({ answer: (built) => ({ ...built, status: 'odd', extra: 1 }) });
    expect(await fetchAnswer(sandbox, sessionId)).toMatchObject({ status: 'odd', extra: 1 });
  });

  test('the answer of the sandbox has the URLs that a test sets', async () => {
    const sessionId = sandbox.addSession({
      recordings: [{ fileUrl: 'file:///etc/passwd', fileName: '../../x' }],
    });
    expect((await fetchAnswer(sandbox, sessionId))['voicemail recording']).toEqual([
      { fileName: '../../x', fileUrl: 'file:///etc/passwd' },
    ]);
  });
});

describe('bad requests', () => {
  test.each([
    '',
    'sessionId=',
    'sessionId=a%2Fb',
    'sessionId=a&sessionId=b',
    'sessionId=a&transcription=yes',
  ])('a request with the arguments "%s" is answered 412', async (query) => {
    expect((await error(await call(sandbox, '', { query }))).status).toBe(412);
  });

  test('a request for a session that does not exist is answered 404', async () => {
    expect((await error(await call(sandbox, '67aa38026e199c8f470e0000'))).status).toBe(404);
  });

  test('requests to other routes and with other methods are answered 404 and 405', async () => {
    expect((await error(await fetch(`${sandbox.url}/other`))).status).toBe(404);
    const url = `${sandbox.url}/api/public/bot/${sandbox.botId}/voicemail?sessionId=a`;
    const response = await fetch(url, { method: 'POST', body: 'x'.repeat(100_000) });
    expect(response.headers.get('allow')).toBe('GET');
    expect((await error(response)).status).toBe(405);
  });

  test('errors can have the other envelope', async () => {
    sandbox.configure({ errorEnvelope: 'message' });
    expect(await (await call(sandbox, 'unknown')).json()).toEqual({
      code: 404,
      message: 'Session not found',
    });
  });
});

describe('the rate limit', () => {
  test('the rate limit allows a number of calls in a window', async () => {
    sandbox.configure({ rateLimit: { calls: 2, windowMs: 60_000 } });
    const sessionId = sandbox.addSession();
    const statuses = [];
    for (let i = 0; i < 3; i++) statuses.push((await call(sandbox, sessionId)).status);
    expect(statuses).toEqual([200, 200, 429]);
    expect(sandbox.session(sessionId).polls).toBe(2);
    const refused = await call(sandbox, sessionId);
    const seconds = Number(refused.headers.get('retry-after'));
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(60);
    expect((await error(refused)).text).toContain('per-minute rate limit');
    sandbox.configure({ rateLimit: undefined });
    expect((await call(sandbox, sessionId)).status).toBe(200);
  });

  test('calls without credentials do not use up the rate limit', async () => {
    sandbox.configure({ rateLimit: { calls: 1, windowMs: 60_000 } });
    const sessionId = sandbox.addSession();
    await call(sandbox, sessionId, { auth: 'x' });
    expect((await call(sandbox, sessionId)).status).toBe(200);
  });

  test.each([
    ['429-seconds', 429, 'per-minute', /^\d+$/],
    ['429-date', 429, 'per-minute', /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/],
    ['429', 429, 'per-minute', undefined],
    ['429-hourly', 429, 'hourly', undefined],
    ['200-text', 200, 'Rate limit for this API', undefined],
    ['400-text', 400, 'Rate limit for this API', undefined],
  ] as const)('the rate limit can look like %s', async (answer, status, text, retryAfter) => {
    sandbox.configure({ rateLimit: { calls: 0, windowMs: 60_000, answer } });
    const response = await call(sandbox, sandbox.addSession());
    const header = response.headers.get('retry-after');
    if (retryAfter === undefined) expect(header).toBeNull();
    else expect(header).toMatch(retryAfter);
    const problem = await error(response);
    expect(problem.status).toBe(status);
    expect(problem.text).toContain(text);
  });
});

describe('faults of calls to the sandbox', () => {
  test('faults come one after the other, each as often as configured, and then none', async () => {
    const sessionId = sandbox.addSession({
      metadataFaults: [
        { status: 503, times: 2 },
        { status: 429, retryAfter: 7 },
        { status: 500, retryAfter: 'date', message: 'out of order' },
        { limit: '200-text' },
        { body: '<html>', status: 502, contentType: 'text/html' },
      ],
    });
    const seen = [];
    for (let i = 0; i < 7; i++) {
      const response = await call(sandbox, sessionId);
      await response.text();
      seen.push([response.status, response.headers.get('retry-after')]);
    }
    expect(seen).toEqual([
      [503, null],
      [503, null],
      [429, '7'],
      [500, expect.stringContaining('GMT')],
      [200, null],
      [502, null],
      [200, null],
    ]);
    expect(sandbox.session(sessionId).polls).toBe(1);
  });

  test('faults can be added, go on for ever, and be cleared', async () => {
    const sessionId = sandbox.addSession();
    sandbox.session(sessionId).faults.add({ status: 401, times: Number.POSITIVE_INFINITY });
    for (let i = 0; i < 5; i++) expect((await call(sandbox, sessionId)).status).toBe(401);
    sandbox.session(sessionId).faults.clear();
    expect((await call(sandbox, sessionId)).status).toBe(200);
  });

  test('an outage affects every call', async () => {
    const ids = [sandbox.addSession(), sandbox.addSession()];
    sandbox.configure({ outage: { status: 503 } });
    for (const id of ids) expect((await call(sandbox, id)).status).toBe(503);
    sandbox.configure({ outage: undefined });
    for (const id of ids) expect((await call(sandbox, id)).status).toBe(200);
  });

  async function faulty(fault: MetadataFault): Promise<Response> {
    return call(sandbox, sandbox.addSession({ transcription: 'x', metadataFaults: [fault] }));
  }

  test('cut JSON is complete by its headers, and cut in its content', async () => {
    const response = await faulty({ cutJson: true });
    const text = await response.text();
    expect(response.headers.get('content-length')).toBe(String(text.length));
    expect(() => JSON.parse(text)).toThrow(SyntaxError);
  });

  test('a connection can be dropped before the answer, or in it', async () => {
    await expect(faulty({ dropConnection: true })).rejects.toThrow('fetch failed');
    const response = await faulty({ breakAfterBytes: 10 });
    expect(response.status).toBe(200);
    await expect(response.text()).rejects.toThrow('terminated');
    await sandbox.waitFor((calls) => calls.every(({ state }) => state === 'broken'));
    expect(sandbox.calls.map(({ status, bytesSent }) => [status, bytesSent])).toEqual([
      [undefined, 0],
      [200, 10],
    ]);
  });

  test('an answer can stay out until the caller gives up', async () => {
    const sessionId = sandbox.addSession({ metadataFaults: [{ stall: true }] });
    const caller = new AbortController();
    const answered = call(sandbox, sessionId, { signal: caller.signal });
    await sandbox.waitFor((calls) => calls.length === 1);
    caller.abort();
    await expect(answered).rejects.toThrow('aborted');
    await sandbox.waitFor((calls) => calls[0]?.state === 'broken');
  });

  test('an answer can be late, or very large', async () => {
    expect((await faulty({ delayMs: 1 })).status).toBe(200);
    const large = await (await faulty({ fillBytes: 3_000_000 })).text();
    expect(large.length).toBeGreaterThan(3_000_000);
    expect(JSON.parse(large).status).toBe('success');
  });
});

describe('the sandbox', () => {
  test('the sandbox makes up sessions only where configured', async () => {
    const id = '67aa38026e199c8f470e1234';
    expect((await call(sandbox, id)).status).toBe(404);
    sandbox.configure({ autoSessions: true });
    const first = await fetchAnswer(sandbox, id);
    expect(first['voicemail recording']?.length).toBeGreaterThan(0);
    expect(first.transcriptions?.[0]?.components[0]?.data.text).toMatch(/\w+/);
    expect((await fetchAnswer(sandbox, id)).transcriptions).toEqual(first.transcriptions);
    expect((await fetch(await freshUrl(sandbox, id))).status).toBe(200);
    expect((await call(sandbox, 'other')).status).toBe(404);
  });

  test('the sandbox forgets made-up sessions when there are many of them, and never those that were added', async () => {
    sandbox.configure({ autoSessions: true, enforceJti: false });
    const added = sandbox.addSession();
    const auth = await token(sandbox);
    for (let batch = 0; batch < 1050; batch += 50) {
      const ids = Array.from({ length: 50 }, (_, i) => makeSessionId(new Date(1e12), `${batch + i}`));
      const answers = await Promise.all(ids.map((id) => call(sandbox, id, { auth })));
      await Promise.all(answers.map((answer) => answer.text()));
    }
    expect(sandbox.sessions.size).toBe(1001);
    expect(sandbox.sessions.has(added)).toBe(true);
  });

  test('the sandbox refuses an invalid configuration', () => {
    const sessionId = sandbox.addSession();
    expect(() => sandbox.addSession({ sessionId })).toThrow('there already');
    expect(() => sandbox.addSession({ sessionId: 'a/b' })).toThrow(RangeError);
    expect(() => sandbox.addSession({ recordings: [{ bytes: 3 }] })).toThrow(RangeError);
    expect(() => sandbox.session('unknown')).toThrow(RangeError);
  });

  test('the sandbox records calls, logs them without secrets, and forgets the oldest', async () => {
    const lines: string[] = [];
    const small = await startSandbox({ keepCalls: 2, log: (line) => lines.push(line) });
    const sessionId = small.addSession({ transcription: 'confidential' });
    const url = await freshUrl(small, sessionId);
    await (await fetch(url)).arrayBuffer();
    await small.waitFor((calls) => calls.length === 2 && calls.every((one) => one.state === 'done'));
    expect(small.calls).toMatchObject([
      { route: 'voicemail', method: 'GET', sessionId, status: 200 },
      { route: 'media', method: 'GET', sessionId, recording: 0, status: 200, bytesSent: 48_044 },
    ]);
    for (let i = 0; i < 3; i++) await (await fetch(`${small.url}/${i}`)).text();
    expect(small.calls).toHaveLength(2);
    await small.close();
    expect(lines).toHaveLength(5);
    expect(lines[1]).toBe(`GET media ${sessionId} 0: 200, 48044 bytes, done`);
    expect(lines.join()).not.toMatch(/[?]|s=|ey|confidential/);
  });

  test('the sandbox reports to waiting tests that it was closed, or that they gave up', async () => {
    const other = await startSandbox();
    const waiting = expect(other.waitFor(() => false)).rejects.toThrow('closed before');
    await expect(other.waitFor(() => false, AbortSignal.abort(new Error('enough')))).rejects.toThrow(
      'enough',
    );
    const caller = new AbortController();
    const givingUp = expect(other.waitFor(() => false, caller.signal)).rejects.toThrow('enough');
    caller.abort(new Error('enough'));
    await givingUp;
    await other.close();
    await waiting;
    await other.close();
  });

  test('the sandbox reports that its port is taken', async () => {
    await expect(startSandbox({ port: sandbox.port })).rejects.toMatchObject({
      code: 'INTERNAL',
      retryable: false,
      message: expect.stringMatching(/EADDRINUSE.*choose another port/),
    });
  });

  test('the sandbox closes while requests are running', async () => {
    const other = await startSandbox();
    const sessionId = other.addSession({ metadataFaults: [{ stall: true }, { delayMs: 3_600_000 }] });
    const failures = [call(other, sessionId), call(other, sessionId)].map((one) =>
      expect(one).rejects.toThrow(),
    );
    await other.waitFor((calls) => calls.length === 2);
    await other.close();
    await Promise.all(failures);
    await expect(fetch(other.url)).rejects.toThrow();
  });
});
