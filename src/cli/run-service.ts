import { once } from 'node:events';
import { createApi } from '../api/server.ts';
import type { Config } from '../config/config.ts';
import type { Need } from '../config/load.ts';
import type { Logger } from '../log.ts';
import type { Runtime } from '../runtime.ts';
import { VERSION } from '../version.ts';
import { type AccessOptions, accessQueue } from './connect.ts';
import { type CliContext, loadService } from './context.ts';
import { CommandFailed } from './exit.ts';
import { createLoopbackToken, ownedDirectory, removeOwner, writeOwner } from './owner.ts';

/** What a service does. */
export interface Roles {
  readonly api: boolean;
  readonly worker: boolean;
  /** What it can't do without in the configuration. */
  readonly needs: readonly Need[];
}

/** Runs until it is told to stop; then the worker stops first and the API last. */
export async function runService(context: CliContext, roles: Roles): Promise<void> {
  const { config, log } = loadService(context, roles);
  const stop = context.stopSignal();
  const runtime = await openOwned(config, { log, signal: stop, say: context.say });
  log.info({ version: VERSION, ...runtime.locations }, 'starting');
  // What was started last is stopped first.
  const stops: (() => Promise<void>)[] = [() => runtime.close()];
  try {
    if (roles.api) stops.unshift(await serveApi(runtime, config, log));
    if (roles.worker && config.kore) {
      const worker = runtime.startWorker(config.kore);
      stops.unshift(() => worker.stop());
      await worker.ready();
      log.info({ concurrency: config.work.concurrency }, 'taking sessions');
    }
    if (!stop.aborted) await once(stop, 'abort');
    log.info({ graceSeconds: config.work.shutdownGraceMs / 1000 }, 'stopping');
  } finally {
    for (const stopPart of stops) await stopPart();
  }
  log.info('stopped');
}

/** Opens the queue; a second process of this kind on the same embedded queue is refused. */
async function openOwned(config: Config, options: AccessOptions): Promise<Runtime> {
  const access = await accessQueue(config, options);
  if (access.kind === 'opened') return access.runtime;
  const { owner, remote } = access;
  await remote.close();
  throw new CommandFailed(
    `process ${owner.pid} works on this embedded queue already, with its API at ${owner.url}; stop that one first, or use a shared queue (QUEUE_URL)`,
  );
}

/** Starts the API, and tells other commands of it where they need it. @returns what ends it. */
async function serveApi(runtime: Runtime, config: Config, log: Logger): Promise<() => Promise<void>> {
  const loopbackToken = createLoopbackToken();
  const api = createApi({
    operations: runtime.operations,
    check: (signal) => runtime.check(signal),
    http: config.http,
    defaultBotId: config.defaultBotId,
    loopbackToken,
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
  try {
    await writeOwner(directory, owner);
  } catch (error) {
    await api.close();
    throw error;
  }
  return async () => {
    await removeOwner(directory);
    await api.close();
  };
}
