import { registerHooks } from 'node:module';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createApi } from '../../src/api/server.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { SessionView } from '../../src/domain/views.ts';
import { openRuntime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLogger } from '../../src/util/log.ts';
import { VERSION } from '../../src/util/process.ts';
import { redact } from '../../src/util/redact.ts';
import { ask } from '../support/api-server.ts';
import { expectNothingSecret, SPOKEN } from '../support/pipeline.ts';
import { createTestQueue, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';
import { type Collector, type Span, startCollector } from '../support/trace-collector.ts';

const WEBHOOK_SECRET = 'webhook-secret-of-a-test';
/** As OpenTelemetry numbers the kinds of spans. */
const [SERVER, CLIENT, PRODUCER, CONSUMER] = [2, 3, 4, 5];
const ERROR = 2;

/** Modules of OpenTelemetry that were asked for since this file began. */
const loaded = new Set<string>();
const hooks = registerHooks({
  resolve(specifier, context, next) {
    if (/opentelemetry|bullmq-otel/.test(specifier)) loaded.add(specifier);
    return next(specifier, context);
  },
});

let sandbox: Sandbox;
let queue: TestQueue;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  [sandbox, queue, directory] = await Promise.all([
    startSandbox(),
    createTestQueue('redis'),
    temporaryDirectory(),
  ]);
});
afterAll(async () => {
  hooks.deregister();
  await Promise.all([sandbox.close(), queue.remove(), directory.remove()]);
});

/** API and worker with the given variables, which the SDK finds in the process's environment as well. */
async function start(variables: Readonly<Record<string, string>>) {
  for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
  const environment = {
    ...sandboxEnvironment(sandbox),
    ARCHIVE_URL: `file:${directory.path}`,
    WEBHOOK_SECRET,
    ...variables,
  };
  const { config, kore } = testConfig(environment, queue.config);
  const lines: string[] = [];
  const log = createLogger('info', (line) => lines.push(line));
  const runtime = await openRuntime(config, log);
  const worker = await runtime.startWorker(kore);
  const api = createApi({
    operations: runtime.operations,
    check: (signal) => runtime.check(signal),
    http: config.http,
    defaultBotId: sandbox.botId,
    requestTracer: runtime.requestTracer,
    log,
  });
  const { url } = await api.listen();
  const until = (sessionId: string, holds: (view: SessionView) => boolean) =>
    vi.waitUntil(
      async () => {
        const view = await runtime.operations.view({ botId: sandbox.botId, sessionId });
        return view && holds(view) ? view : undefined;
      },
      { interval: 20, timeout: 60_000 },
    );
  return {
    lines,
    until,
    ends: (sessionId: string) => until(sessionId, ({ state }) => state === 'archived' || state === 'failed'),
    post: (sessionIds: readonly string[], traceparent?: string) =>
      ask(url, '/v1/sessions', { json: { sessionIds }, ...(traceparent && { headers: { traceparent } }) }),
    notify: (sessionId: string, traceparent: string) =>
      ask(url, '/webhooks/voicemail', {
        json: { sessionId },
        headers: { auth: WEBHOOK_SECRET, traceparent },
      }),
    ask: (path: string) => ask(url, path),
    async stop() {
      await api.close();
      await worker.stop();
      await runtime.close();
      vi.unstubAllEnvs();
    },
  };
}

it('no OpenTelemetry package is loaded while no endpoint is set', async () => {
  const program = await start({});
  const sessionId = sandbox.addSession();
  await program.post([sessionId]);
  await program.ends(sessionId);
  await program.stop();

  expect([...loaded]).toEqual([]);
  // Before anything below has loaded it, which shows that this would be noticed.
  await import('../../src/observability/tracing/start.ts');
  expect([...loaded].join('\n')).toContain('bullmq-otel');
});

describe('the traces of a run', () => {
  const CALLER = '00f067aa0ba902b7';
  const traceIds = {
    ordinary: '4bf92f3577b34da6a3ce929d0e0e4736',
    troubled: '0af7651916cd43dd8448eb211c80319c',
    failed: 'aaf7651916cd43dd8448eb211c80319c',
    crowd: 'baf7651916cd43dd8448eb211c80319c',
    refused: 'caf7651916cd43dd8448eb211c80319c',
  };
  const crowd = Array.from({ length: 101 }, (_, index) => `unknown-${index}`);
  const sessions = { ordinary: '', troubled: '' };
  let collector: Collector;

  beforeAll(async () => {
    collector = await startCollector();
    sessions.ordinary = sandbox.addSession({ transcription: SPOKEN });
    sessions.troubled = sandbox.addSession({
      metadataFaults: [{ status: 503 }],
      notReadyPolls: 1,
      recordings: [{ bytes: 200_000, mediaFaults: [{ breakAfterBytes: 50_000 }] }],
      transcription: { texts: [SPOKEN], afterPolls: 3 },
    });
    const program = await start({
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_EXPORTER_OTLP_HEADERS: 'api-key=secret%20of%20the%20collector',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    });
    const parent = (traceId: string) => `00-${traceId}-${CALLER}-01`;
    await program.post([sessions.ordinary], parent(traceIds.ordinary));
    await program.notify(sessions.troubled, parent(traceIds.troubled));
    await program.post(['nobody-knows-it'], parent(traceIds.failed));
    await program.post(crowd, parent(traceIds.crowd));
    await program.post([], parent(traceIds.refused));
    await program.ask('/livez');
    await Promise.all(['nobody-knows-it', ...crowd].map((id) => program.ends(id)));
    await program.until(sessions.ordinary, ({ state }) => state === 'archived');
    await program.until(sessions.troubled, ({ transcript }) => transcript === 'archived');
    await program.stop();
  });
  afterAll(() => collector.close());

  const inTrace = (traceId: string) => collector.spans.filter((span) => span.traceId === traceId);
  const parentOf = (child: Span) => collector.spans.find(({ spanId }) => spanId === child.parentSpanId);
  /** The names from a span up to the first one of its trace. */
  const chain = (span: Span): string[] => {
    const parent = parentOf(span);
    return [span.name, ...(parent ? chain(parent) : [])];
  };
  const named = (traceId: string, name: string) => inTrace(traceId).filter((span) => span.name === name);
  const one = (traceId: string, name: string): Span => {
    const spans = named(traceId, name);
    if (spans.length !== 1 || !spans[0]) throw new Error(`${spans.length} spans named ${name}`);
    return spans[0];
  };

  it('a session belongs to the trace it came with, from the request to its manifest', () => {
    const { ordinary } = traceIds;
    const [intake, added] = ['POST /v1/sessions', 'addBulk sessions'];

    expect(inTrace(ordinary).map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        intake,
        added,
        'process sessions',
        'kore voicemail',
        'transfer recording',
        'write transcript',
        'write manifest',
      ]),
    );
    for (const name of ['kore voicemail', 'transfer recording', 'write transcript', 'write manifest']) {
      expect(chain(one(ordinary, name))).toEqual([name, 'process sessions', added, intake]);
    }
    expect(one(ordinary, intake).parentSpanId).toBe(CALLER);
    expect(inTrace(ordinary).filter(({ status }) => status.code === ERROR)).toEqual([]);
    expect(
      [intake, added, 'process sessions', 'kore voicemail'].map((name) => one(ordinary, name).kind),
    ).toEqual([SERVER, PRODUCER, CONSUMER, CLIENT]);
  });

  it('the spans of a session name each step of its archiving', () => {
    const { ordinary } = traceIds;
    const about = (name: string) => one(ordinary, name).attributes;

    expect(about('POST /v1/sessions')).toMatchObject({
      'http.request.method': 'POST',
      'http.route': '/v1/sessions',
      'http.response.status_code': 202,
    });
    expect(about('process sessions')).toMatchObject({
      'voicemail.session.id': sessions.ordinary,
      'voicemail.bot.id': sandbox.botId,
      'voicemail.outcome': 'archived',
      'voicemail.recordings': 1,
      'voicemail.transcript': 'archived',
    });
    expect(about('kore voicemail')).toMatchObject({
      'http.response.status_code': 200,
      'voicemail.readiness': 'ready',
    });
    expect(about('transfer recording')).toMatchObject({
      'server.address': new URL(sandbox.url).host,
      'voicemail.recording.bytes': 48_044,
      'voicemail.recording.container': 'wav',
      'voicemail.download.seconds_to_expiry': expect.any(Number),
      'voicemail.download.resumes': 0,
      'voicemail.download.url_refreshes': 0,
      'voicemail.download.seconds': expect.any(Number),
      'voicemail.upload.seconds': expect.any(Number),
    });
  });

  it('failed attempts, polls and the late transcript belong to the trace of their session', () => {
    const { troubled } = traceIds;
    const attempts = named(troubled, 'process sessions');

    expect(attempts.map(({ attributes }) => attributes['voicemail.outcome'])).toEqual([
      'wait',
      'wait',
      'archived',
    ]);
    for (const attempt of attempts) {
      expect(chain(attempt)).toEqual(['process sessions', 'addBulk sessions', 'POST /webhooks/voicemail']);
    }
    expect(attempts.map(({ status }) => status)).toEqual([
      { code: ERROR, message: 'KORE_UNAVAILABLE' },
      { code: 0 },
      { code: 0 },
    ]);
    expect(one(troubled, 'transfer recording')).toMatchObject({
      attributes: { 'voicemail.download.resumes': 1 },
      events: ['download started', 'download resumed'],
    });

    const polls = named(troubled, 'process sessions-transcripts');
    expect(polls.length).toBeGreaterThan(0);
    expect(polls.at(-1)?.attributes).toMatchObject({ 'voicemail.transcript': 'archived' });
    expect(chain(one(troubled, 'write transcript'))).toEqual([
      'write transcript',
      'process sessions-transcripts',
      'add sessions-transcripts.transcript',
      'process sessions',
      'addBulk sessions',
      'POST /webhooks/voicemail',
    ]);
  });

  it('a failure is recorded by its code, where it happened and with the session', () => {
    const { failed } = traceIds;

    expect(one(failed, 'kore voicemail')).toMatchObject({
      status: { code: ERROR, message: expect.stringMatching(/^SESSION_NOT_FOUND: ./) },
      attributes: { 'error.type': 'SESSION_NOT_FOUND', 'http.response.status_code': 404 },
    });
    expect(one(failed, 'process sessions')).toMatchObject({
      status: { code: ERROR, message: 'SESSION_NOT_FOUND' },
      attributes: { 'voicemail.outcome': 'fail', 'voicemail.session.id': 'nobody-knows-it' },
    });
  });

  it('a refused request is recorded by its problem, and is no error of this program', () => {
    expect(inTrace(traceIds.refused)).toMatchObject([
      {
        name: 'POST /v1/sessions',
        status: { code: 0 },
        attributes: { 'http.response.status_code': 400, 'error.type': 'INVALID_REQUEST' },
      },
    ]);
  });

  it('each of a great many sessions in one request has a trace of its own', () => {
    const ofCrowd = collector.spans.filter(({ attributes }) =>
      crowd.includes(String(attributes['voicemail.session.id'])),
    );
    const attempts = ofCrowd.filter(({ name }) => name === 'process sessions');

    expect(inTrace(traceIds.crowd).map(({ name }) => name)).toEqual([
      'addBulk sessions',
      'POST /v1/sessions',
    ]);
    expect(one(traceIds.crowd, 'addBulk sessions').attributes).toEqual({
      'bullmq.queue.name': 'sessions',
      'bullmq.queue.operation': 'addBulk',
      'bullmq.job.bulk.count': crowd.length,
    });
    expect(attempts.length).toBe(crowd.length);
    expect(new Set(attempts.map(({ traceId }) => traceId)).size).toBe(crowd.length);
  });

  it('idle workers, health checks and the exporter itself make no traces', () => {
    expect(new Set(collector.spans.map(({ name }) => name))).toEqual(
      new Set([
        'POST /v1/sessions',
        'POST /webhooks/voicemail',
        'addBulk sessions',
        'add sessions-transcripts.transcript',
        'process sessions',
        'process sessions-transcripts',
        'kore voicemail',
        'transfer recording',
        'read manifest',
        'read manifest.partial',
        'read hold',
        'read tombstone',
        'read transcript',
        'write manifest',
        'write transcript',
      ]),
    );
  });

  it('the traces hold nothing secret, and name the program they come from', async () => {
    expect(collector.resource).toMatchObject({
      'service.name': 'voicemail-archiver',
      'service.version': VERSION,
      'deployment.environment.name': 'test',
    });
    expect(collector.headers['api-key']).toBe('secret of the collector');
    expect(collector.payload).not.toContain(WEBHOOK_SECRET);
    expectNothingSecret('the traces', collector.payload, sandbox);
    expectNothingSecret('the queue', await queue.contents(), sandbox);
  });
});

it('sessions are archived while the collector is unavailable, which is logged once', async () => {
  const program = await start({
    // Nobody listens there.
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1',
    OTEL_EXPORTER_OTLP_TIMEOUT: '700',
  });
  const sessionId = sandbox.addSession();
  await program.post([sessionId]);
  expect(await program.ends(sessionId)).toMatchObject({ state: 'archived' });
  await program.stop();

  const warnings = program.lines.filter((line) => line.includes('traces cannot be sent'));
  expect(warnings.length, program.lines.join('')).toBe(1);
  expect(warnings[0]).toContain('ECONNREFUSED');
});

describe('the tracing configuration', () => {
  const load = (environment: Readonly<Record<string, string>>) =>
    loadConfig(environment, { needs: [] }).traces;
  const ENDPOINT = { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://collector.example' };

  it.each([
    ['no endpoint', {}],
    ['no endpoint, whatever else there is', { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', OTEL_SERVICE_NAME: 'x' }],
    ['the SDK switched off', { ...ENDPOINT, OTEL_SDK_DISABLED: 'TRUE' }],
    ['no exporter', { ...ENDPOINT, OTEL_TRACES_EXPORTER: 'none' }],
  ])('tracing is off with %s', (_, environment) => {
    expect(load(environment)).toBeUndefined();
  });

  it.each([
    ['protobuf and all traces by default', {}, {}],
    ['JSON', { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }, { protocol: 'http/json' }],
    [
      "the traces' own protocol first",
      { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/json' },
      { protocol: 'http/json' },
    ],
    [
      'a sampler',
      { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.25' },
      { sampler: 'parentbased_traceidratio', samplerRatio: 0.25 },
    ],
  ])('the tracing configuration accepts %s', (_, environment, expected) => {
    const standard = {
      endpoint: 'https://collector.example',
      protocol: 'http/protobuf',
      sampler: 'parentbased_always_on',
      samplerRatio: 1,
    };
    expect(load({ ...ENDPOINT, ...environment })).toEqual({ ...standard, ...expected });
  });

  it.each([
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4317'],
    ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'ftp://collector.example'],
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'grpc'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'no-value'],
    ['OTEL_TRACES_SAMPLER', 'sometimes'],
    ['OTEL_TRACES_SAMPLER_ARG', '2'],
  ])('%s=%s is refused by the tracing configuration', (variable, value) => {
    expect(() => load({ ...ENDPOINT, [variable]: value })).toThrow(new RegExp(`^${variable}: `));
  });

  it("the collector's credentials stay out of everything that is written", () => {
    load({
      OTEL_EXPORTER_OTLP_ENDPOINT: 'https://user:pass-of-collector@collector.example',
      OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Bearer%20token-of-collector,x-tenant=voicemail',
    });
    expect(redact('pass-of-collector token-of-collector voicemail')).toBe('[redacted] [redacted] voicemail');
  });
});
