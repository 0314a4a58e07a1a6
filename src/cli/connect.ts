import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RemoteOperations } from '../api/client.ts';
import type { BackfillOperations } from '../backfills/operations.ts';
import type { CompletenessOperations } from '../completeness/operations.ts';
import type { Config } from '../config/config.ts';
import type { CustodyOperations } from '../operations/custody.ts';
import type { Operations } from '../operations/operations.ts';
import { custodyWithAuditLog, operationsWithAuditLog } from '../operations/with-audit-log.ts';
import type { Runtime } from '../runtime.ts';
import type { Logger } from '../util/log.ts';
import { osUser } from '../util/process.ts';
import { CommandFailed } from './context.ts';
import { type Owner, ownedDirectory, readOwner, removeOwner } from './owner.ts';

/** The queue as this process got at it: opened by itself, or through the API of the process that holds it. */
export type QueueAccess =
  | { readonly kind: 'opened'; readonly runtime: Runtime }
  | { readonly kind: 'held'; readonly owner: Owner; readonly remote: RemoteOperations };

/** How to get at the queue. */
export interface QueueAccessOptions {
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Shows the person at the terminal what the command waits for. */
  readonly say: (text: string) => void;
  /** How long to wait for a process that holds the queue and can't be talked to; default 15 s. */
  readonly holderWaitMs?: number;
  /** How long to wait for the queue's server (milliseconds); not at all by default. */
  readonly serverWaitMs?: number;
}

/** What a command that does one thing works with. */
export interface Connection {
  readonly operations: Operations;
  readonly backfills: BackfillOperations;
  readonly custody: CustodyOperations;
  readonly completeness: CompletenessOperations;
  /** The bot that ids belong to when none is named; where this process knows none, the queue holder's. */
  readonly defaultBotId: string | undefined;
  /** Whether no worker can use the queue while this command runs, because it holds the embedded queue itself. */
  readonly isAlone: boolean;
}

/** A process that is just starting, or a command that is about to end, is waited for. */
const DEFAULT_HOLDER_WAIT_MS = 15_000;
const HOLDER_POLL_MS = 200;
/** A holder that is busy may take a while to answer. */
const HOLDER_ANSWER_MS = 15_000;

/**
 * Opens queue and archive, or finds the process that holds the embedded queue.
 *
 * @throws CommandFailed when another process holds the queue and can't be talked to.
 * @throws QueueUnavailableError
 */
export async function accessQueue(config: Config, options: QueueAccessOptions): Promise<QueueAccess> {
  const { signal, say, holderWaitMs = DEFAULT_HOLDER_WAIT_MS } = options;
  const directory = ownedDirectory(config.queue);
  const giveUpAt = Date.now() + holderWaitMs;
  for (let isFirst = true; ; isFirst = false) {
    // Asked first: it costs next to nothing, and all that opens a queue need not even be loaded.
    const holder = directory === undefined ? undefined : await askHolder(directory);
    if (holder?.remote) return { kind: 'held', owner: holder.owner, remote: holder.remote };
    const opened = await openUnlessHeld(config, options);
    if (typeof opened !== 'string') {
      // A killed process could not remove its file.
      if (directory !== undefined) await removeOwner(directory);
      return { kind: 'opened', runtime: opened };
    }
    if (Date.now() > giveUpAt) throw unreachableHolder(opened, holder);
    if (isFirst) say('The embedded queue is in use by another process; waiting for that one ...\n');
    await sleep(HOLDER_POLL_MS, undefined, { signal });
  }
}

/** Opens the connection, hands it to `use`, and closes it whatever happens. */
export async function withConnection<T>(
  config: Config,
  options: QueueAccessOptions,
  use: (connection: Connection) => Promise<T>,
): Promise<T> {
  const access = await accessQueue(config, options);
  if (access.kind === 'held') {
    const { owner, remote } = access;
    options.log.debug(
      { pid: owner.pid, url: owner.url },
      'another process holds the queue: going through its API',
    );
    try {
      return await use({
        operations: remote,
        backfills: remote.backfills,
        custody: remote.custody,
        completeness: remote.completeness,
        defaultBotId: config.defaultBotId ?? owner.defaultBotId,
        isAlone: false,
      });
    } finally {
      await remote.close();
    }
  }
  const { runtime } = access;
  try {
    return await use({
      ...runtimeWithAuditLog(runtime),
      completeness: runtime.completeness,
      defaultBotId: config.defaultBotId,
      isAlone: !runtime.isQueueShared,
    });
  } finally {
    await runtime.close();
  }
}

/** Who says to hold the queue: either it answers, or there is a reason why it does not. */
type Holder =
  | { readonly owner: Owner; readonly remote: RemoteOperations; readonly fault?: never }
  | { readonly owner: Owner; readonly remote?: never; readonly fault: Error };

/** Whether the process that the owner's file names is there, and knows its own token. */
async function askHolder(directory: string): Promise<Holder | undefined> {
  const owner = await readOwner(directory);
  if (!owner) return undefined;
  const { createRemoteOperations } = await import('../api/client.ts');
  const remote = createRemoteOperations(owner.url, owner.token);
  const timeout = AbortSignal.timeout(HOLDER_ANSWER_MS);
  try {
    await Promise.race([remote.stats(), once(timeout, 'abort').then(() => timeout.throwIfAborted())]);
    return { owner, remote };
  } catch (error) {
    await remote.close();
    return { owner, fault: error as Error };
  }
}

/** The runtime, or in words that another process holds the queue. */
async function openUnlessHeld(
  config: Config,
  { log, signal, serverWaitMs = 0 }: QueueAccessOptions,
): Promise<Runtime | string> {
  const [{ openRuntime }, { QueueHeldError }] = await Promise.all([
    import('../runtime.ts'),
    import('../jobs/backends/backend.ts'),
  ]);
  try {
    return await openRuntime(config, log, { waitMs: serverWaitMs, signal });
  } catch (error) {
    if (error instanceof QueueHeldError) return error.message;
    throw error;
  }
}

function unreachableHolder(held: string, holder: Holder | undefined): Error {
  const what = holder?.fault
    ? `${holder.fault.message} (process ${holder.owner.pid}, by its owner.json)`
    : 'that process has no API (a command that is still running, or the demo?)';
  return new CommandFailed(
    `${held}, and ${what}; wait until it ends or stop it, or use a shared queue (QUEUE_URL)`,
    { cause: holder?.fault },
  );
}

/** For a command that opened the queue itself: its changes are recorded in the audit log. */
function runtimeWithAuditLog({
  operations,
  backfills,
  custody,
  auditLog,
}: Pick<Runtime, 'operations' | 'backfills' | 'custody' | 'auditLog'>): Pick<
  Runtime,
  'operations' | 'backfills' | 'custody'
> {
  if (!auditLog) return { operations, backfills, custody };
  // A user who can open the queue may do everything.
  const actor = { name: osUser(), role: 'erase', via: 'cli' } as const;
  const loggedBackfills: BackfillOperations = {
    ...backfills,
    async start(order) {
      const view = await backfills.start(order);
      if (!order.dryRun) auditLog.record({ actor, action: 'backfill', details: { ...order } });
      return view;
    },
    async cancel(id) {
      const outcome = await backfills.cancel(id);
      if (outcome === 'cancelled') auditLog.record({ actor, action: 'backfill.cancel', details: { id } });
      return outcome;
    },
    async setSchedule(schedule) {
      await backfills.setSchedule(schedule);
      auditLog.record({ actor, action: 'schedule.set', details: { ...schedule } });
    },
    async removeSchedule(name) {
      const wasThere = await backfills.removeSchedule(name);
      if (wasThere) auditLog.record({ actor, action: 'schedule.remove', details: { name } });
      return wasThere;
    },
  };
  return {
    operations: operationsWithAuditLog(operations, { auditLog, actor }),
    backfills: loggedBackfills,
    custody: custodyWithAuditLog(custody, { auditLog, actor }),
  };
}
