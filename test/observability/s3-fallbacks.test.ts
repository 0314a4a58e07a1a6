/** From a bucket that does not answer the fast path as it hopes to what an operator sees of it: metric and log. */

import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { ask } from '../support/api-server.ts';
import { hasLogged, type RunningCli, startCli } from '../support/cli.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { parseExposition, sampleValue } from '../support/metrics-parser.ts';
import { createTestQueue } from '../support/queues.ts';
import { openTestBucket } from '../support/s3.ts';
import { type InjectedFault, type S3Proxy, type SeenRequest, startS3Proxy } from '../support/s3-proxy.ts';
import { sandboxEnvironment } from '../support/services.ts';

const FALLBACKS = 'voicemail_s3_fallbacks_total';

let opened: AsyncDisposableStack;
let sandbox: Sandbox;
let proxy: S3Proxy;
let env: Record<string, string>;
let worker: RunningCli;
/** What the bucket does with requests of a kind that the SDK has not sent. */
let faults: Partial<Record<SeenRequest['stage'], InjectedFault>> = {};
let spoiled = 0;
/** The last session that was enqueued. */
let lastSession = '';

beforeAll(async () => {
  opened = new AsyncDisposableStack();
  sandbox = opened.adopt(await startSandbox(), (one) => one.close());
  const queue = opened.adopt(await createTestQueue('redis'), (one) => one.remove());
  const bucket = opened.adopt(await openTestBucket(), (one) => one.close());
  proxy = opened.adopt(await startS3Proxy(bucket.endpoint, decide), (one) => one.close());
  const { target, prefix, name } = queue.config;
  if (target.kind !== 'redis') throw new Error('a Redis queue was asked for');
  env = {
    ...sandboxEnvironment(sandbox),
    QUEUE_URL: target.url,
    QUEUE_NAME: name,
    QUEUE_PREFIX: String(prefix),
    ARCHIVE_URL: `s3://${bucket.bucket}/archive`,
    AWS_ENDPOINT_URL_S3: proxy.endpoint,
    AWS_REGION: bucket.region,
    AWS_ACCESS_KEY_ID: bucket.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: bucket.credentials.secretAccessKey,
    S3_FORCE_PATH_STYLE: 'true',
    // No look for late recordings: what is written is what was enqueued.
    SETTLE_WAIT: '0',
    // One after the other, so that answers are met in a row.
    WORKER_CONCURRENCY: '1',
    LOG_LEVEL: 'info',
  };
  worker = await start('worker', 'taking sessions');
});

afterAll(() => opened.disposeAsync());

/** A process of its own. */
async function start(command: string, ready: string): Promise<RunningCli> {
  const program = startCli([command], { env });
  opened.defer(async () => {
    program.kill('SIGKILL');
    await program.ended;
  });
  await program.waitFor(hasLogged(ready));
  return program;
}

function urlOf({ log }: RunningCli): string {
  return `http://127.0.0.1:${log.find(({ msg }) => msg === 'listening')?.port}`;
}

/** The SDK numbers its requests. */
function decide({ stage, headers }: SeenRequest): InjectedFault {
  const fault = faults[stage];
  if (fault === undefined || 'amz-sdk-invocation-id' in headers) return 'pass';
  spoiled += 1;
  return fault;
}

/** Values as a process serves them. */
async function servedBy(
  program: RunningCli,
): Promise<{ fallbacks: number | undefined; archived: number | undefined }> {
  const families = parseExposition((await ask(urlOf(program), '/metrics')).text);
  return {
    fallbacks: sampleValue(families, FALLBACKS),
    archived: sampleValue(families, 'voicemail_sessions_total', { outcome: 'archived', code: 'none' }),
  };
}

const served = () => servedBy(worker);

let archived = 0;
/** Archives sessions, until the worker itself counts them. */
async function archive(count: number): Promise<void> {
  const ids = Array.from({ length: count }, () => sandbox.addSession());
  expect(await runInProcess(['enqueue', ...ids], { env })).toMatchObject({ code: 0 });
  archived += count;
  lastSession = ids.at(-1) ?? '';
  await expect.poll(served).toMatchObject({ archived });
}

const linesOf = (part: string, { log } = worker) => log.filter(({ msg }) => String(msg).includes(part));

it('a bucket that answers as it should shows no fallback, from the start', async () => {
  expect((await served()).fallbacks).toBe(0);
  await archive(2);
  expect((await served()).fallbacks).toBe(0);
  expect(linesOf('left to the SDK')).toEqual([]);
});

it('each request that the bucket refuses for a moment is counted in /metrics, and the cause logged once', async () => {
  faults = { put: { status: 503, code: 'SlowDown' } };
  await archive(3);

  expect(spoiled).toBeGreaterThanOrEqual(6);
  expect((await served()).fallbacks).toBe(spoiled);
  expect(linesOf('left to the SDK')).toMatchObject([{ level: 'info', method: 'PUT', reason: '503' }]);
  // It was no outage: nothing waited for the bucket.
  expect(linesOf('a dependency is unavailable')).toEqual([]);
});

it('a bucket with a way of its own is counted three times, warned of once, and then left alone', async () => {
  const before = spoiled;
  faults = { put: 'blank answer' };
  await archive(4);

  expect(spoiled - before).toBe(3);
  expect((await served()).fallbacks).toBe(spoiled);
  expect(linesOf('in a way of its own')).toMatchObject([{ level: 'warn', method: 'PUT' }]);
});

it('an API that reads the bucket counts and logs its own', async () => {
  faults = {};
  // It looks into the bucket now and then.
  worker.kill('SIGTERM');
  await worker.ended;
  const api = await start('api', 'listening');
  const read = async () => (await ask(urlOf(api), `/v1/sessions/${lastSession}/manifest`)).status;
  // The first request to the bucket is the SDK's.
  expect(await read()).toBe(200);
  expect((await servedBy(api)).fallbacks).toBe(0);
  const before = spoiled;
  faults = { get: { status: 503, code: 'SlowDown' } };
  expect([await read(), await read()]).toEqual([200, 200]);

  expect(spoiled - before).toBeGreaterThanOrEqual(2);
  expect((await servedBy(api)).fallbacks).toBe(spoiled - before);
  expect(linesOf('left to the SDK', api)).toMatchObject([{ level: 'info', method: 'GET', reason: '503' }]);
});
