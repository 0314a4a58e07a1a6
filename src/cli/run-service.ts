import { once } from 'node:events';
import type { ApiOptions } from '../api/server.ts';
import { createCompletenessSummary } from '../completeness/operations.ts';
import type { Config } from '../config/config.ts';
import type { Need } from '../config/load.ts';
import { createMetrics } from '../observability/metrics/metrics.ts';
import type { MeasuredQueue } from '../observability/metrics/queue.ts';
import type { Runtime } from '../runtime.ts';
import { settleInOrder } from '../util/async.ts';
import { collectSooner } from '../util/garbage.ts';
import type { Logger } from '../util/log.ts';
import { VERSION } from '../util/process.ts';
import { createLivenessCheck } from '../workers/liveness.ts';
import type { SessionWorker } from '../workers/worker.ts';
import { accessQueue, type QueueAccessOptions } from './connect.ts';
import { type CliContext, CommandFailed, loadService } from './context.ts';
import { createLoopbackToken, ownedDirectory, removeOwner, writeOwner } from './owner.ts';

/** What a service does. */
export interface ServiceParts {
  readonly api: boolean;
  readonly worker: boolean;
  /** What it can't do without in the configuration. */
  readonly needs: readonly Need[];
}

/** What reports the health of the process. */
type Vitals = Pick<ApiOptions, 'metrics' | 'liveness' | 'breakers'>;

/** How long a service waits at its start for a server that is not there yet, as when all of them start at once. */
const SERVER_WAIT_MS = 60_000;

/** Runs until a signal stops it; then the worker stops first, and the HTTP server last. */
export async function runService(context: CliContext, roles: ServiceParts): Promise<void> {
  const { config, log } = loadService(context, roles);
  const stop = context.stopSignal();
  const runtime = await openOwned(config, {
    log,
    signal: stop,
    say: context.say,
    serverWaitMs: SERVER_WAIT_MS,
  });
  if (!runtime) return;
  log.info({ version: VERSION, ...runtime.locations }, 'starting');
  // What was started last is stopped first.
  const stops: (() => Promise<void>)[] = [() => runtime.close()];
  let worker: SessionWorker | undefined;
  const breakers = () => worker?.breakers() ?? [];
  const { defaultBotId, kore } = config;
  const metrics = createMetrics({
    stats: () => measure(runtime),
    breakers,
    ...(config.completeness &&
      defaultBotId !== undefined && {
        completeness: createCompletenessSummary(
          defaultBotId,
          kore?.retentionMs,
          runtime.completeness,
          Date.now,
        ),
      }),
    digestsDue: runtime.digestsDue,
    version: VERSION,
    log,
  });
  runtime.observeArchive(metrics.archive);
  const notStarted = { lastTakenAt: Date.now(), activeSessions: 0, concurrency: 1, heldUntil: undefined };
  const run = async () => {
    // It listens before the worker is there, so that a worker that never gets ready can be seen.
    const vitals = {
      metrics,
      ...(roles.worker && {
        breakers,
        liveness: createLivenessCheck({
          activity: () => worker?.activity() ?? notStarted,
          waiting: () => runtime.queue.takeable(),
        }),
      }),
    };
    const serve = roles.api ? serveApi : serveProbes;
    stops.unshift(await serve(runtime, config, vitals, log));
    if (roles.worker && config.kore) {
      collectSooner();
      worker = await runtime.startWorker(config.kore, metrics);
      const { stop: stopWorker } = worker;
      stops.unshift(stopWorker);
      // A queue that does not answer must not keep it from being stopped.
      if (!(await unlessStopped(worker.ready(), stop))) return;
      log.info({ concurrency: config.work.concurrency }, 'taking sessions');
    }
    await stopped(stop);
  };
  await settleInOrder([
    run,
    async () => log.info({ graceSeconds: config.work.shutdownGraceMs / 1000 }, 'stopping'),
    () => settleInOrder(stops),
  ]);
  log.info('stopped');
}

/** What metrics show of the queue. */
async function measure({ operations, notificationCounts }: Runtime): Promise<MeasuredQueue> {
  const [stats, notifications] = await Promise.all([operations.stats(), notificationCounts()]);
  return { ...stats, ...(notifications && { notificationsPending: notifications.pending }) };
}

/** Resolves once the signal is aborted. */
async function stopped(stop: AbortSignal): Promise<void> {
  if (!stop.aborted) await once(stop, 'abort');
}

/** Waits for some work, but no longer than until the stop. @returns whether it was done. */
async function unlessStopped(work: Promise<unknown>, stop: AbortSignal): Promise<boolean> {
  // An error after a stop is not reported.
  work.catch(() => undefined);
  return Promise.race([work.then(() => true), stopped(stop).then(() => false)]);
}

/**
 * Opens the queue; a second process of this kind on the same embedded queue is refused.
 * @returns `undefined` when it was stopped before.
 */
async function openOwned(config: Config, options: QueueAccessOptions): Promise<Runtime | undefined> {
  const opening = accessQueue(config, options);
  if (!(await unlessStopped(opening, options.signal))) {
    // A queue that does not answer fails by its own time limits; one that answers late is closed.
    const access = await opening.catch(() => undefined);
    if (access?.kind === 'opened') await access.runtime.close();
    else await access?.remote.close();
    return undefined;
  }
  const access = await opening;
  if (access.kind === 'opened') return access.runtime;
  const { owner, remote } = access;
  await remote.close();
  throw new CommandFailed(
    `process ${owner.pid} works on this embedded queue already, with its API at ${owner.url}; stop that one first, or use a shared queue (QUEUE_URL)`,
  );
}

/** Starts the API, and publishes its address for other commands where they need it. @returns closes the API. */
async function serveApi(
  runtime: Runtime,
  config: Config,
  vitals: Vitals,
  log: Logger,
): Promise<() => Promise<void>> {
  const loopbackToken = createLoopbackToken();
  const { createApi } = await import('../api/server.ts');
  const api = createApi({
    operations: runtime.operations,
    objects: runtime.objects,
    backfills: runtime.backfills,
    custody: runtime.custody,
    completeness: runtime.completeness,
    retentionMs: config.kore?.retentionMs,
    events: runtime.events,
    queue: runtime.queue,
    check: (signal) => runtime.check(signal),
    ...vitals,
    http: config.http,
    defaultBotId: config.defaultBotId,
    loopbackToken,
    auditLog: runtime.auditLog,
    requestTracer: runtime.requestTracer,
    log,
  });
  const { url } = await api.listen();
  const directory = ownedDirectory(config.queue);
  if (directory === undefined) return () => api.close();
  const { defaultBotId } = config;
  const owner = {
    pid: process.pid,
    url,
    token: loopbackToken,
    ...(defaultBotId !== undefined && { defaultBotId }),
  };
  const close = () => settleInOrder([() => removeOwner(directory), () => api.close()]);
  try {
    await writeOwner(directory, owner);
  } catch (error) {
    await close();
    throw error;
  }
  return close;
}

/** Serves what watches over a worker that has no API. @returns what ends it. */
async function serveProbes(
  runtime: Runtime,
  { http }: Config,
  vitals: Vitals,
  log: Logger,
): Promise<() => Promise<void>> {
  const { createProbes } = await import('../api/probes.ts');
  const probes = createProbes({ check: (signal) => runtime.check(signal), ...vitals, http, log });
  await probes.listen();
  return () => probes.close();
}
