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
/** What the bucket does with puts that the SDK has not sent. */
let fault: InjectedFault = 'pass';
let spoiled = 0;

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
  worker = startCli(['worker'], { env });
  opened.defer(async () => {
    worker.kill('SIGKILL');
    await worker.ended;
  });
  await worker.waitFor(hasLogged('taking sessions'));
});

afterAll(() => opened.disposeAsync());

/** The SDK numbers its requests. */
function decide({ stage, headers }: SeenRequest): InjectedFault {
  if (stage !== 'put' || fault === 'pass' || 'amz-sdk-invocation-id' in headers) return 'pass';
  spoiled += 1;
  return fault;
}

/** Values as the worker serves them. */
async function served(): Promise<{ fallbacks: number | undefined; archived: number | undefined }> {
  const port = worker.log.find(({ msg }) => msg === 'listening')?.port;
  const families = parseExposition((await ask(`http://127.0.0.1:${port}`, '/metrics')).text);
  return {
    fallbacks: sampleValue(families, FALLBACKS),
    archived: sampleValue(families, 'voicemail_sessions_total', { outcome: 'archived', code: 'none' }),
  };
}

let archived = 0;
/** Archives sessions, until the worker itself counts them. */
async function archive(count: number): Promise<void> {
  const ids = Array.from({ length: count }, () => sandbox.addSession());
  expect(await runInProcess(['enqueue', ...ids], { env })).toMatchObject({ code: 0 });
  archived += count;
  await expect.poll(served).toMatchObject({ archived });
}

const linesOf = (part: string) => worker.log.filter(({ msg }) => String(msg).includes(part));

it('a bucket that answers as it should shows no fallback, from the start', async () => {
  expect((await served()).fallbacks).toBe(0);
  await archive(2);
  expect((await served()).fallbacks).toBe(0);
  expect(linesOf('left to the SDK')).toEqual([]);
});

it('each request that the bucket refuses for a moment is counted in /metrics, and the cause logged once', async () => {
  fault = { status: 503, code: 'SlowDown' };
  await archive(3);

  expect(spoiled).toBeGreaterThanOrEqual(6);
  expect((await served()).fallbacks).toBe(spoiled);
  expect(linesOf('left to the SDK')).toMatchObject([{ level: 'info', method: 'PUT', reason: '503' }]);
  // It was no outage: nothing waited for the bucket.
  expect(linesOf('a dependency is unavailable')).toEqual([]);
});

it('a bucket with a way of its own is counted three times, warned of once, and then left alone', async () => {
  const before = spoiled;
  fault = 'blank answer';
  await archive(4);

  expect(spoiled - before).toBe(3);
  expect((await served()).fallbacks).toBe(spoiled);
  expect(linesOf('in a way of its own')).toMatchObject([{ level: 'warn', method: 'PUT' }]);
});
