/** The whole program on real parts, against the sandbox, with short waiting times. */

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { expect, vi } from 'vitest';
import type { BackfillOperations } from '../../src/backfills/operations.ts';
import type { Config, KoreConfig, NotifyConfig, WorkConfig } from '../../src/config/config.ts';
import type { EnqueueOutcome, EnqueueRequest } from '../../src/domain/requests.ts';
import type { SessionView } from '../../src/domain/views.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { transcriptQueueName } from '../../src/jobs/session-queue.ts';
import type { Operations } from '../../src/operations/operations.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import type { SandboxOptions } from '../../src/sandbox/spec.ts';
import { type Manifest, parseManifest } from '../../src/storage/documents.ts';
import { manifestKey } from '../../src/storage/layout.ts';
import { unlessAborted } from '../../src/util/async.ts';
import { createLogger } from '../../src/util/log.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { type ArchiveKind, openTestArchive, type TestArchive } from './archive-stores.ts';
import { createTestQueue, forgetCallPause, type QueueKind, silent, type TestQueue } from './queues.ts';

/** In every transcript of a test, so that it is found wherever it must not be. */
export const SPOKEN = 'pineapple umbrella';

const SECOND = 1_000;

/** Small times, and waits that no test reaches unless it shortens them. */
const WORK: WorkConfig = {
  concurrency: 8,
  transferMemoryBytes: 64 * 1024 * 1024,
  maxRecordingBytes: 64 * 1024 * 1024,
  recordingWaitMs: 600 * SECOND,
  transcriptWaitMs: 600 * SECOND,
  pollDelayMs: 50,
  retryDelayMs: 20,
  retryWaitMs: 600 * SECOND,
  unauthorizedPauseMs: 300,
  downloadIdleTimeoutMs: 5 * SECOND,
  sessionWaitMs: 0,
  settleWaitMs: 0,
  downloadMinBytesPerSecond: 1,
  shutdownGraceMs: 10 * SECOND,
};

/** Pauses within a transfer, so that a test of what comes after them does not have to wait for them. */
const QUICK_TRANSFERS = { retryPauseMs: 10, slowCheckMs: 250 };

/** Longer than anything takes, however busy the machine is. */
const TIMEOUT_MS = 100 * SECOND;
/** Between two checks of a session, each of which is computing on the queue's side and on ours. */
const LEAST_PAUSE_MS = 20;
const MOST_PAUSE_MS = 160;

/** A queue and an archive for the tests of a file; each test starts a pipeline of its own on them. */
export interface Setup {
  readonly archive: TestArchive;
  readonly queue: TestQueue;
  start(options?: PipelineOptions): Promise<Pipeline>;
  /** Ends it and proves that nothing secret is left in the queue. */
  close(): Promise<void>;
}

/** What a test may want different. */
export interface PipelineOptions {
  readonly sandbox?: SandboxOptions;
  /** An API that is there already, and is not closed with the pipeline. */
  readonly existingSandbox?: Sandbox;
  readonly work?: Partial<WorkConfig>;
  readonly kore?: Partial<KoreConfig>;
  readonly notify?: NotifyConfig;
  /** Starts taking sessions at once; default true. */
  readonly startWorker?: boolean;
}

/** A running pipeline. */
export interface Pipeline {
  readonly sandbox: Sandbox;
  readonly operations: Operations;
  readonly backfills: BackfillOperations;
  /** Lines of the log so far, from the lowest level on. */
  readonly log: readonly string[];
  enqueue(...sessionIds: string[]): Promise<EnqueueOutcome[]>;
  request(...requests: Omit<EnqueueRequest, 'botId'>[]): Promise<EnqueueOutcome[]>;
  /** Resolves with the session's view once it is as expected; rejects with the last state seen after 100 s. */
  waitFor(sessionId: string, holds: (view: SessionView) => boolean): Promise<SessionView>;
  /** Waits until it is archived or failed. */
  ends(sessionId: string): Promise<SessionView>;
  /** Waits until its transcript is settled. */
  transcriptSettled(sessionId: string): Promise<SessionView>;
  /** Keys below the archive that came since the pipeline was started, without the archive's own prefix. */
  archived(): Promise<string[]>;
  manifest(sessionId: string): Promise<Manifest>;
  /** An object by its full key. */
  read(key: string): Promise<Buffer>;
  stopWorker(): Promise<void>;
  startWorker(): Promise<void>;
  /** Stops everything, takes it that all waits are over (sessions', and the pause of calls), and starts again. */
  skipWaits(): Promise<void>;
  /**
   * Ends it and proves what holds of every run: nothing half-done is left in the archive, Kore was treated as it
   * wants to be, and neither log nor queue (where the setup does not prove that) holds anything secret.
   */
  stop(): Promise<void>;
}

/** Opens a queue and an archive of one kind each. */
export async function openSetup(queueKind: QueueKind, archiveKind: ArchiveKind): Promise<Setup> {
  await using opened = new AsyncDisposableStack();
  const queue = opened.adopt(await createTestQueue(queueKind), (one) => one.remove());
  const archive = opened.adopt(await openTestArchive(archiveKind), (one) => one.close());
  opened.defer(() => void vi.unstubAllEnvs());
  stubAwsEnvironment(archive);
  // Opening an embedded one costs more computing than most tests on it.
  const backend = queue.shared ? undefined : await openBackend(queue.config, silent);
  const parts = opened.move();
  const sandboxes: Sandbox[] = [];
  return {
    archive,
    queue,
    async start(options = {}) {
      const pipeline = await startPipeline({ queue, archive, backend, isQueueInspected: false }, options);
      sandboxes.push(pipeline.sandbox);
      return pipeline;
    },
    async close() {
      try {
        await backend?.close();
        // Once for all tests: what they queued is still there, and an embedded queue takes long to open.
        const contents = await queue.contents();
        for (const sandbox of sandboxes) expectNothingSecret('the queue', contents, sandbox);
      } finally {
        await parts.disposeAsync();
      }
    },
  };
}

/** The store finds its server as anybody's would: by the AWS SDK's standard chain. */
export function stubAwsEnvironment({ options: { connection } }: TestArchive): void {
  if (!connection) return;
  const { endpoint, region, credentials } = connection;
  const { accessKeyId, secretAccessKey } = credentials as { accessKeyId: string; secretAccessKey: string };
  vi.stubEnv('AWS_ENDPOINT_URL_S3', String(endpoint));
  vi.stubEnv('AWS_REGION', String(region));
  vi.stubEnv('AWS_ACCESS_KEY_ID', accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', secretAccessKey);
}

/** What a pipeline runs on. */
export interface PipelineParts {
  readonly queue: TestQueue;
  readonly archive: TestArchive;
  /** The queue, where it is open already. */
  readonly backend?: Backend | undefined;
  /** Whether the pipeline looks for secrets in the queue when it stops; default true. */
  readonly isQueueInspected?: boolean;
}

/** Starts sandbox, queue, archive and worker as one. */
export async function startPipeline(
  { queue, archive, backend, isQueueInspected = true }: PipelineParts,
  options: PipelineOptions,
): Promise<Pipeline> {
  const sandbox = options.existingSandbox ?? (await startSandbox(options.sandbox));
  const { botId } = sandbox;
  const kore: KoreConfig = {
    baseUrl: sandbox.url,
    botId,
    clientId: sandbox.clientId,
    clientSecret: sandbox.clientSecret,
    accountId: undefined,
    rateLimit: { calls: 10_000, windowMs: SECOND },
    maxAnswerBytes: 64 * 2 ** 20,
    retentionMs: undefined,
    ...options.kore,
  };
  const config: Config = {
    kore,
    defaultBotId: botId,
    media: { hosts: ['127.0.0.1', 'localhost'], allowPrivate: true, privateHosts: [] },
    // A queue of its own on the server that the tests of a file share.
    queue: { ...queue.config, name: `sessions-${randomUUID()}` },
    archive: archive.target,
    work: { ...WORK, ...options.work },
    http: { host: '127.0.0.1', port: 0, tokens: [] },
    schedules: [],
    notify: options.notify,
    logLevel: 'trace',
    warnings: [],
  };
  const log: string[] = [];
  const logger = createLogger('trace', (line) => log.push(line));
  const before = new Set(await archive.list());

  let runtime: Runtime = await openRuntime(config, logger, { backend });
  let worker: SessionWorker | undefined;
  const startWorker = async () => {
    worker = await runtime.startWorker(kore, undefined, { transfers: QUICK_TRANSFERS });
    await worker.ready();
  };
  const stopWorker = async () => {
    const stopping = worker;
    worker = undefined;
    await stopping?.stop();
  };
  if (options.startWorker !== false) await startWorker();

  const ref = (sessionId: string) => ({ botId, sessionId });
  const waitFor: Pipeline['waitFor'] = async (sessionId, holds) => {
    const limit = AbortSignal.timeout(TIMEOUT_MS);
    let seenLines = 0;
    let pauseMs = 0;
    let last: SessionView | undefined;
    let isAnswered = false;
    try {
      for (;;) {
        isAnswered = false;
        last = await unlessAborted(runtime.operations.view(ref(sessionId)), limit);
        isAnswered = true;
        if (last && holds(last)) return last;
        // Whatever happens is logged about when it does: while nothing is, a check is worth less and less.
        pauseMs = log.length > seenLines ? LEAST_PAUSE_MS : Math.min(2 * pauseMs, MOST_PAUSE_MS);
        seenLines = log.length;
        await sleep(pauseMs, undefined, { signal: limit });
      }
    } catch (error) {
      if (!limit.aborted) throw error;
      const seconds = TIMEOUT_MS / SECOND;
      throw new Error(
        `session ${sessionId} is not as expected after ${seconds} s: the last state seen is ${last?.state ?? 'none'}` +
          `${isAnswered ? '' : ', and the queue has not answered since'}: ${JSON.stringify(last)}\n${log.slice(-20).join('')}`,
        { cause: error },
      );
    }
  };
  const request: Pipeline['request'] = async (...requests) =>
    (await runtime.operations.enqueue(requests.map((one) => ({ ...one, botId })))).map(
      ({ outcome }) => outcome,
    );
  const fullKey = (key: string) => archive.store.fullKey(key);

  return {
    sandbox,
    get operations() {
      return runtime.operations;
    },
    get backfills() {
      return runtime.backfills;
    },
    log,
    request,
    enqueue: (...sessionIds) => request(...sessionIds.map((sessionId) => ({ sessionId }))),
    waitFor,
    ends: (sessionId) => waitFor(sessionId, ({ state }) => state === 'archived' || state === 'failed'),
    transcriptSettled: (sessionId) =>
      waitFor(sessionId, ({ transcript }) => transcript !== undefined && transcript !== 'pending'),
    async archived() {
      const prefix = fullKey('-').slice(0, -1);
      return (await archive.list())
        .filter((key) => !before.has(key))
        .map((key) => (key.startsWith(prefix) ? key.slice(prefix.length) : key));
    },
    async manifest(sessionId) {
      const key = fullKey(manifestKey(ref(sessionId)));
      return parseManifest(await archive.get(key), key);
    },
    read: (key) => archive.get(key),
    startWorker,
    stopWorker,
    async skipWaits() {
      await stopWorker();
      await runtime.close();
      await endWaits(config, backend);
      runtime = await openRuntime(config, logger, { backend });
      await startWorker();
    },
    async stop() {
      await stopWorker();
      await runtime.close();
      if (!options.existingSandbox) await sandbox.close();
      expect(await archive.leftovers()).toEqual([]);
      expect(sandbox.violations).toEqual([]);
      expectNothingSecret('the log', log.join(''), sandbox);
      if (isQueueInspected) expectNothingSecret('the queue', await queue.contents(), sandbox);
    },
  };
}

/** Makes every waiting session due, and ends the pause of calls. */
async function endWaits(config: Config, opened: Backend | undefined): Promise<void> {
  const backend = opened ?? (await openBackend(config.queue, silent));
  for (const name of [config.queue.name, transcriptQueueName(config.queue.name)]) {
    const queue = new Queue(backend.queueName(name), { ...backend.options('producer') }, backend.factory);
    await Promise.all((await queue.getDelayed()).map((job) => job.promote()));
    await queue.close();
  }
  await forgetCallPause(backend, config.queue.name);
  if (!opened) await backend.close();
}

/** Looks for what must be nowhere but in memory and in the archive. */
export function expectNothingSecret(where: string, text: string, sandbox: Sandbox): void {
  const found = {
    'client secret': text.includes(sandbox.clientSecret),
    token: /eyJ[\w-]{5,}\.[\w-]+/.test(text),
    'query of a signed URL': /[?&](?:e|n|s|X-Amz-\w+)=[^\s&"[]/i.test(text),
    transcript: text.includes(SPOKEN),
  };
  expect(found, where).toEqual({
    'client secret': false,
    token: false,
    'query of a signed URL': false,
    transcript: false,
  });
}
