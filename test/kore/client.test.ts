import { getEventListeners, once } from 'node:events';
import { readFileSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import { type JWTPayload, jwtVerify } from 'jose';
import { afterEach, describe, expect, test } from 'vitest';
import type { KoreConfig } from '../../src/config/config.ts';
import { VoicemailError } from '../../src/domain/errors.ts';
import type { CallClass, CallLimit } from '../../src/domain/voicemail.ts';
import {
  type CallOutcome,
  createKoreClient,
  type KoreClient,
  type KoreClientOptions,
} from '../../src/kore/client.ts';
import { createLogger } from '../../src/util/log.ts';
import { registerSecret } from '../../src/util/redact.ts';

const CLIENT_ID = 'cs-1c4d2f3a-0000-5000-8000-000000000001';
const CLIENT_SECRET = 'not+a/real=secret&but long enough';
const SESSION = { botId: 'st-b110e148-7428-5295-960b-099e81670001', sessionId: '67aa38026e199c8f470e0001' };
const SAMPLE = readFileSync(new URL('../fixtures/voicemail-response.json', import.meta.url), 'utf8');
const RATE_LIMITED = JSON.stringify({
  code: 429,
  message: "You've exceeded the hourly rate limit. Please wait.",
});

registerSecret(CLIENT_SECRET);

const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A limit that lets everything pass and remembers what it was asked. */
class RecordingLimit implements CallLimit {
  readonly acquired: CallClass[] = [];
  readonly pauses: number[] = [];

  acquire(callClass: CallClass, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.acquired.push(callClass);
    return Promise.resolve();
  }

  pause(milliseconds: number): Promise<void> {
    this.pauses.push(milliseconds);
    return Promise.resolve();
  }
}

interface Setup {
  readonly client: KoreClient;
  readonly limit: RecordingLimit;
  readonly outcomes: CallOutcome[];
  readonly lines: string[];
}

function setUp(baseUrl: string, options: Partial<KoreClientOptions> = {}): Setup {
  const config: KoreConfig = {
    baseUrl,
    botId: SESSION.botId,
    clientId: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    accountId: undefined,
    rateLimit: { calls: 60, windowMs: 60_000 },
    maxAnswerBytes: 64 * 2 ** 20,
    retentionMs: undefined,
  };
  const limit = new RecordingLimit();
  const outcomes: CallOutcome[] = [];
  const lines: string[] = [];
  const client = createKoreClient({
    config,
    limit,
    log: createLogger('trace', (line) => lines.push(line)),
    onCall: (outcome) => outcomes.push(outcome),
    ...options,
  });
  cleanups.push(() => client.close());
  return { client, limit, outcomes, lines };
}

async function listen(server: Server, scheme = 'http'): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function serve(listener: RequestListener): Promise<string> {
  return listen(createServer(listener));
}

function signal(): AbortSignal {
  return new AbortController().signal;
}

async function failure(call: Promise<unknown>): Promise<VoicemailError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof VoicemailError) return error;
    throw error;
  }
  throw new Error('expected a failure');
}

function verify(request: IncomingMessage): Promise<JWTPayload> {
  const token = String(request.headers.auth);
  return jwtVerify(token, new TextEncoder().encode(CLIENT_SECRET), { algorithms: ['HS256'] }).then(
    ({ payload }) => payload,
  );
}

/** Answers requests with the listed answers in turn, and repeats the last one. */
function takeTurns(...answers: ((response: ServerResponse) => void)[]): RequestListener {
  let turn = 0;
  return (_request, response) => {
    answers[Math.min(turn, answers.length - 1)]?.(response);
    turn += 1;
  };
}

function reply(status: number, body: string | Buffer, headers: Record<string, string> = {}) {
  return (response: ServerResponse) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body);
  };
}

describe('a call to Kore', () => {
  test('a call to Kore is the documented request, and returns the sample answer', async () => {
    const requests: IncomingMessage[] = [];
    const url = await serve((request, response) => {
      requests.push(request);
      reply(200, SAMPLE)(response);
    });
    const { client, limit, outcomes } = setUp(url);

    const voicemail = await client.fetchVoicemail(SESSION, 'background', signal());

    expect(voicemail.recordings).toHaveLength(1);
    expect(voicemail.transcriptions).toEqual(JSON.parse(SAMPLE).transcriptions);
    expect(requests).toHaveLength(1);
    expect(requests[0]).toMatchObject({
      method: 'GET',
      url: `/api/public/bot/${SESSION.botId}/voicemail?sessionId=${SESSION.sessionId}&transcription=true`,
      headers: { 'content-type': 'application/json' },
    });
    expect(limit.acquired).toEqual(['background']);
    expect(outcomes).toEqual([{ status: 200, milliseconds: expect.any(Number) }]);
  });

  test('a call to Kore carries a token of its own, signed for Kore', async () => {
    const payloads: JWTPayload[] = [];
    const url = await serve((request, response) => {
      verify(request).then(
        (payload) => {
          payloads.push(payload);
          reply(200, SAMPLE)(response);
        },
        () => reply(401, '')(response),
      );
    });
    const { client } = setUp(url);
    const before = Math.floor(Date.now() / 1000);
    await client.fetchVoicemail(SESSION, 'live', signal());
    await client.fetchVoicemail(SESSION, 'live', signal());

    expect(payloads).toHaveLength(2);
    for (const payload of payloads) {
      expect(payload).toEqual({
        appId: CLIENT_ID,
        sub: CLIENT_ID,
        iss: CLIENT_ID,
        aud: 'https://idproxy.kore.ai/authorize',
        iat: expect.any(Number),
        exp: (payload.iat ?? 0) + 300,
        jti: expect.stringMatching(/^[0-9a-f-]{36}$/),
      });
      expect(payload.iat).toBeGreaterThanOrEqual(before);
    }
    expect(payloads[0]?.jti).not.toBe(payloads[1]?.jti);
  });

  test('a call to Kore percent-encodes ids, so that none changes the path or the query', async () => {
    const urls: (string | undefined)[] = [];
    const url = await serve((request, response) => {
      urls.push(request.url);
      reply(200, SAMPLE)(response);
    });
    const { client } = setUp(url);
    await client.fetchVoicemail(
      { botId: 'a/../b?c', sessionId: 'x&transcription=false#ü' },
      'live',
      signal(),
    );
    expect(urls).toEqual([
      '/api/public/bot/a%2F..%2Fb%3Fc/voicemail?sessionId=x%26transcription%3Dfalse%23%C3%BC&transcription=true',
    ]);
  });

  test('calls to Kore share a connection', async () => {
    const sockets = new Set<Socket>();
    const url = await serve((request, response) => {
      sockets.add(request.socket);
      reply(sockets.size === 1 ? 200 : 500, SAMPLE)(response);
    });
    const { client } = setUp(url);
    for (let index = 0; index < 5; index += 1) await client.fetchVoicemail(SESSION, 'live', signal());
    expect(sockets.size).toBe(1);
  });

  test('the client reads error bodies to their end, so that their connection is kept too', async () => {
    const sockets = new Set<Socket>();
    const url = await serve((request, response) => {
      sockets.add(request.socket);
      reply(404, 'x'.repeat(300_000))(response);
    });
    const { client } = setUp(url);
    for (let index = 0; index < 3; index += 1)
      await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    expect(sockets.size).toBe(1);
  });

  test('a call over https trusts the authorities that Node trusts, and no others', async () => {
    const cert = readFileSync(new URL('../fixtures/tls-localhost.crt', import.meta.url), 'utf8');
    const key = readFileSync(new URL('../fixtures/tls-localhost.key', import.meta.url), 'utf8');
    const url = await listen(
      createTlsServer({ cert, key }, (_request, response) => reply(200, SAMPLE)(response)),
      'https',
    );
    const { client } = setUp(url);

    const error = await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    expect(error.code).toBe('KORE_UNAVAILABLE');
    expect(error.message).toMatch(/CERT.*NODE_EXTRA_CA_CERTS/);

    const trusted = getCACertificates('default');
    cleanups.push(() => setDefaultCACertificates(trusted));
    setDefaultCACertificates([...trusted, cert]);
    expect((await client.fetchVoicemail(SESSION, 'live', signal())).readiness).toBe('ready');
  });

  test('log lines name other ids inside the transcript by their ids alone', async () => {
    const transcriptions = [
      { botId: 'st-other', sessionId: 'other-1', text: 'call me back' },
      { botId: SESSION.botId, sessionId: 'my number is 555 0100' },
      { botId: SESSION.botId, sessionId: SESSION.sessionId },
    ];
    const url = await serve(
      takeTurns(
        reply(200, JSON.stringify({ transcriptions })),
        reply(200, JSON.stringify({ transcriptions })),
      ),
    );
    const { client, lines } = setUp(url);
    for (let time = 1; time <= 2; time += 1) await client.fetchVoicemail(SESSION, 'live', signal());
    expect(lines.map((line) => JSON.parse(line).level)).toEqual(['info', 'debug']);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      level: 'info',
      session: SESSION.sessionId,
      bot: SESSION.botId,
      foreignBotIds: ['st-other'],
      foreignSessionIds: ['other-1', '(no id)'],
    });
    expect(lines[0]).not.toMatch(/call me|555/);
  });
});

describe('refused credentials', () => {
  test('refused credentials are signed again once, within the limit', async () => {
    const tokens: unknown[] = [];
    const url = await serve((request, response) => {
      tokens.push(request.headers.auth);
      reply(tokens.length === 1 ? 401 : 200, SAMPLE)(response);
    });
    const { client, limit, outcomes } = setUp(url);
    expect((await client.fetchVoicemail(SESSION, 'live', signal())).readiness).toBe('ready');
    expect(new Set(tokens).size).toBe(2);
    expect(limit.acquired).toEqual(['live', 'live']);
    expect(outcomes).toMatchObject([{ status: 401, code: 'KORE_UNAUTHORIZED' }, { status: 200 }]);
  });

  test('credentials that stay refused fail with Kore’s words after the second try', async () => {
    let requests = 0;
    const body = JSON.stringify({ errors: [{ msg: 'Permission denied. Scope is incorrect!', code: 4002 }] });
    const url = await serve((_request, response) => {
      requests += 1;
      reply(401, body)(response);
    });
    const { client, limit } = setUp(url);
    const error = await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    expect(error.code).toBe('KORE_UNAUTHORIZED');
    expect(error.message).toContain('Permission denied. Scope is incorrect!');
    expect(requests).toBe(2);
    expect(limit.acquired).toHaveLength(2);
  });

  test('credentials that are refused, then limited, pause everyone', async () => {
    const url = await serve(takeTurns(reply(401, ''), reply(429, '', { 'retry-after': '9' })));
    const { client, limit } = setUp(url);
    const error = await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    expect(error).toMatchObject({ code: 'KORE_RATE_LIMITED', retryAfterMs: 9000 });
    expect(limit.pauses).toEqual([9000]);
  });
});

describe('a limit on calls to Kore', () => {
  test.each([
    ['429 with Retry-After', reply(429, '', { 'retry-after': '9' }), 9_000],
    ['200 with the hourly text', reply(200, RATE_LIMITED), 900_000],
  ])(
    'a limit reported by %s pauses everyone, and is not tried again at once',
    async (_name, answer, waitMs) => {
      let requests = 0;
      const url = await serve((_request, response) => {
        requests += 1;
        answer(response);
      });
      const { client, limit } = setUp(url);
      const error = await failure(client.fetchVoicemail(SESSION, 'live', signal()));
      expect(error).toMatchObject({ code: 'KORE_RATE_LIMITED', retryAfterMs: waitMs });
      expect(limit.pauses).toEqual([waitMs]);
      expect(requests).toBe(1);
    },
  );

  test('a limit is reported even when the others could not be paused', async () => {
    const url = await serve(takeTurns(reply(429, '')));
    const limit: CallLimit = {
      acquire: () => Promise.resolve(),
      pause: () => Promise.reject(new Error('queue gone')),
    };
    const { client, lines } = setUp(url, { limit });
    const error = await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    expect(error.code).toBe('KORE_RATE_LIMITED');
    expect(lines.join('')).toContain('queue gone');
  });

  test('a limit of our own keeps the request from being sent, and pauses nobody', async () => {
    let requests = 0;
    const url = await serve((_request, response) => {
      requests += 1;
      reply(200, SAMPLE)(response);
    });
    const pauses: number[] = [];
    const own = new VoicemailError('KORE_RATE_LIMITED', 'not your turn', { retryAfterMs: 5 });
    const limit: CallLimit = {
      acquire: () => Promise.reject(own),
      pause: (milliseconds) => Promise.resolve(void pauses.push(milliseconds)),
    };
    const { client, outcomes } = setUp(url, { limit });
    expect(await failure(client.fetchVoicemail(SESSION, 'live', signal()))).toBe(own);
    expect({ requests, pauses, outcomes }).toEqual({ requests: 0, pauses: [], outcomes: [] });
  });
});

describe('an unrequested content encoding', () => {
  test.each<[string, Buffer]>([
    ['gzip', gzipSync(SAMPLE)],
    ['br', brotliCompressSync(SAMPLE)],
    ['deflate', deflateSync(SAMPLE)],
    // A header that says so of what is not.
    ['gzip', Buffer.from(SAMPLE)],
    ['utf-8', Buffer.from(SAMPLE)],
  ])('an unrequested content encoding (%s) is decoded', async (coding, body) => {
    const url = await serve((_request, response) =>
      reply(200, body, { 'content-encoding': coding })(response),
    );
    const { client } = setUp(url);
    expect((await client.fetchVoicemail(SESSION, 'live', signal())).readiness).toBe('ready');
  });

  test('a compressed answer is read up to the limit', async () => {
    const body = gzipSync(`"${'x'.repeat(200_000)}"`);
    const url = await serve((_request, response) =>
      reply(200, body, { 'content-encoding': 'gzip' })(response),
    );
    const { client } = setUp(url, { maxBodyBytes: 100_000 });
    const error = await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    expect(error).toMatchObject({ code: 'KORE_BAD_RESPONSE' });
    expect(error.message).toMatch(/larger than 100000 bytes/);
  });
});

describe('a call that fails', () => {
  const part = SAMPLE.slice(0, 400);

  test.each<[string, RequestListener, Partial<KoreClientOptions>, string, RegExp]>([
    [
      'a connection reset',
      (request) => request.socket.resetAndDestroy(),
      {},
      'KORE_UNAVAILABLE',
      /ECONNRESET|SOCKET/,
    ],
    ['a connection closed', (request) => request.socket.destroy(), {}, 'KORE_UNAVAILABLE', /UND_ERR_SOCKET/],
    [
      'a body shorter than announced',
      (_request, response) => {
        response.writeHead(200, { 'content-length': SAMPLE.length });
        response.write(part, () => response.socket?.end());
      },
      {},
      'KORE_UNAVAILABLE',
      /UND_ERR|HPE/,
    ],
    [
      'a body without a length that is cut off',
      (request) => void request.socket.end(`HTTP/1.1 200 OK\r\n\r\n${part}`),
      {},
      'KORE_BAD_RESPONSE',
      /cut off/,
    ],
    ['no HTTP', (request) => request.socket.end(`what? ${SAMPLE}`), {}, 'KORE_UNAVAILABLE', /no HTTP/],
    ['silence', () => {}, { headersTimeoutMs: 50 }, 'KORE_UNAVAILABLE', /UND_ERR_HEADERS_TIMEOUT/],
    [
      'a body that stalls',
      (_request, response) => void response.writeHead(200).write(part),
      { bodyTimeoutMs: 50 },
      'KORE_UNAVAILABLE',
      /UND_ERR_BODY_TIMEOUT/,
    ],
    [
      'a body that is sent too slowly',
      (_request, response) => {
        response.writeHead(200);
        const timer = setInterval(() => response.write(' '), 5);
        response.on('close', () => clearInterval(timer));
      },
      { totalTimeoutMs: 100 },
      'KORE_UNAVAILABLE',
      /not complete after 100 ms/,
    ],
    [
      'a body too large',
      (_request, response) => reply(200, `"${'x'.repeat(2000)}"`)(response),
      { maxBodyBytes: 1000 },
      'KORE_BAD_RESPONSE',
      /larger than 1000 bytes/,
    ],
    [
      'a body without end',
      (_request, response) => {
        response.writeHead(200);
        const pour = () => {
          while (!response.destroyed && response.write('x'.repeat(10_000)));
        };
        response.on('drain', pour);
        pour();
      },
      { maxBodyBytes: 100_000 },
      'KORE_BAD_RESPONSE',
      /larger than 100000 bytes/,
    ],
    [
      'a redirect',
      (_request, response) => reply(307, '', { location: 'http://169.254.169.254/latest' })(response),
      {},
      'KORE_BAD_RESPONSE',
      /redirected the call to 169\.254\.169\.254/,
    ],
  ])('a call answered with %s fails with its code', async (_name, listener, options, code, message) => {
    const url = await serve(listener);
    const { client, outcomes } = setUp(url, options);
    const error = await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ code, retryable: true });
    expect(outcomes).toMatchObject([{ code }]);
  });

  test('a call fails with KORE_UNAVAILABLE when nobody listens', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const { client, outcomes } = setUp(`http://127.0.0.1:${port}`);
    const error = await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    expect(error.code).toBe('KORE_UNAVAILABLE');
    expect(error.message).toContain('ECONNREFUSED');
    expect(outcomes).toEqual([
      { status: undefined, code: 'KORE_UNAVAILABLE', milliseconds: expect.any(Number) },
    ]);
  });

  test('a broken connection is replaced by the next call', async () => {
    const url = await serve(takeTurns((response) => response.destroy(), reply(200, SAMPLE)));
    const { client } = setUp(url);
    await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    expect((await client.fetchVoicemail(SESSION, 'live', signal())).readiness).toBe('ready');
  });
});

describe('an abort of a call to Kore', () => {
  const reason = new Error('shutting down');

  test('a call that is aborted before it starts sends nothing', async () => {
    let requests = 0;
    const url = await serve((_request, response) => {
      requests += 1;
      reply(200, SAMPLE)(response);
    });
    const { client } = setUp(url);
    await expect(client.fetchVoicemail(SESSION, 'live', AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(requests).toBe(0);
  });

  test.each([
    ['while waiting for headers', (_response: ServerResponse) => {}],
    ['while reading the body', (response: ServerResponse) => void response.writeHead(200).write('{')],
  ])('an abort %s throws its own reason and closes the connection', async (_name, answer) => {
    const controller = new AbortController();
    let closed: Promise<unknown> | undefined;
    const url = await serve((request, response) => {
      closed = new Promise((resolve) => request.socket.once('close', resolve).once('error', () => {}));
      answer(response);
      setImmediate(() => controller.abort(reason));
    });
    const { client } = setUp(url);
    await expect(client.fetchVoicemail(SESSION, 'live', controller.signal)).rejects.toBe(reason);
    await closed;
  });

  test('an abort leaves no listener behind on a long-lived signal', async () => {
    const url = await serve(takeTurns(reply(200, SAMPLE)));
    const { client } = setUp(url);
    const controller = new AbortController();
    for (let index = 0; index < 3; index += 1)
      await client.fetchVoicemail(SESSION, 'live', controller.signal);
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });
});

test('a client can be closed twice', async () => {
  const url = await serve(takeTurns(reply(200, SAMPLE)));
  const { client } = setUp(url);
  await client.fetchVoicemail(SESSION, 'live', signal());
  await client.close();
  await client.close();
});

test('no token, secret or signed URL appears in any error or log line', async () => {
  const tokens: string[] = [];
  const echo = (token: string) =>
    JSON.stringify({
      errors: [{ msg: `refused ${token} of ${CLIENT_SECRET} ${encodeURIComponent(CLIENT_SECRET)}` }],
    });
  const turns: ((token: string, response: ServerResponse) => void)[] = [
    (token, response) => reply(401, echo(token))(response),
    (token, response) => reply(401, echo(token))(response),
    (token, response) => reply(400, echo(token))(response),
    (token, response) => reply(429, echo(token))(response),
    (token, response) => reply(500, `no ${token}`)(response),
    (token, response) => reply(302, '', { location: `https://x.kore.ai/?t=${token}` })(response),
    (token, response) => reply(200, `{"a":"${token}${SAMPLE}`)(response),
    (token, response) => reply(200, JSON.stringify([{ recording: token }, 1]))(response),
    (token, response) => void response.socket?.end(`garbage ${token} ${SAMPLE}`),
    (_token, response) => void response.destroy(),
  ];
  const url = await serve((request, response) => {
    const token = String(request.headers.auth);
    turns[tokens.length]?.(token, response);
    tokens.push(token);
  });
  const { client, lines } = setUp(url);
  const log = createLogger('trace', (line) => lines.push(line));
  const texts: string[] = [];
  while (tokens.length < turns.length) {
    const error = await failure(client.fetchVoicemail(SESSION, 'live', signal()));
    log.error({ err: error }, 'call failed');
    texts.push(error.message);
  }
  expect(lines.length).toBeGreaterThanOrEqual(turns.length - 1);
  const all = [...texts, ...lines].join('\n');
  for (const secret of [
    ...tokens,
    CLIENT_SECRET,
    encodeURIComponent(CLIENT_SECRET),
    '3757551799',
    'IldYeks0',
  ]) {
    expect(all).not.toContain(secret);
  }
  expect(all).not.toContain('voicemail testing');
});
