import type { z } from 'zod';
import { LARGE_LIST } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import type { SessionEvent } from '../domain/views.ts';
import { openBackend } from '../jobs/backends/open.ts';
import { EventFeed } from '../jobs/event-feed.ts';
import { forgetNotifications } from '../jobs/notification-queue.ts';
import { SessionQueue } from '../jobs/session-queue.ts';
import { type CustodyOperations, createCustodyOperations } from '../operations/custody.ts';
import {
  EnqueueBody,
  EraseBody,
  HoldBody,
  issuesText,
  ListQuerySchema,
  listQueryOf,
  SessionParams,
} from '../operations/input.ts';
import { createOperations, type Operations } from '../operations/operations.ts';
import { withinTime } from '../util/async.ts';
import { createLogger, type Logger } from '../util/log.ts';
import { osUser } from '../util/process.ts';
import type {
  Archiver,
  ArchiverLogger,
  ArchiverOptions,
  BotOptions,
  EnqueueOptions,
  EventsOptions,
} from './archiver.ts';
import { ArchiverError, asArchiverError } from './errors.ts';
import { type ArchiverSettings, readOptions } from './options.ts';

/** How long a reader of events waits at most before it asks again. */
const EVENT_WAIT_MS = 60_000;

/**
 * A client of the queue of voicemails, which needs neither Kore's credentials nor the HTTP API. Whatever it queues is
 * archived by the workers on the same queue.
 *
 * It connects with the first call, and again by itself after an outage; so this returns at once, also while the queue
 * is unavailable. Close it when it is not needed any more: the process stays for its connections.
 *
 * @throws ConfigError that names all options that are wrong.
 * @example
 * import { createArchiver } from 'voicemail-archiver';
 *
 * const archiver = createArchiver({ queueUrl: 'redis://localhost:6379', botId: 'st-1' });
 * await archiver.enqueue('67ab573f3685d1ba99541234');
 * const session = await archiver.get('67ab573f3685d1ba99541234');
 * console.log(session?.state); // 'queued'
 * await archiver.close();
 */
export function createArchiver(options: ArchiverOptions): Archiver {
  const settings = readOptions(options);
  const log = loggerTo(settings.logger);
  const calls = new Set<Promise<unknown>>();
  let opening: Promise<Connection> | undefined;
  let closing: Promise<void> | undefined;

  const connect = (): Promise<Connection> => {
    opening ??= openConnection(settings, log).catch((error: unknown) => {
      opening = undefined;
      throw error;
    });
    return opening;
  };

  /** Every use of the connection: bounded in time, and its errors are the caller's. */
  const call = async <T>(use: (connection: Connection) => Promise<T>): Promise<T> => {
    if (closing) throw new ArchiverError('CLOSED', 'the archiver has been closed', { retryable: false });
    const answer = within(settings.timeoutMs, connect().then(use));
    calls.add(answer);
    try {
      return await answer;
    } catch (error) {
      throw asArchiverError(error);
    } finally {
      calls.delete(answer);
    }
  };

  const botOf = ({ botId = settings.botId }: BotOptions): string => {
    if (botId !== undefined) return botId;
    throw invalid('botId is missing: give it with the call, or to createArchiver for all calls');
  };

  const refOf = (sessionId: string, options: BotOptions): SessionRef => {
    const { id, botId } = check(SessionParams.extend({ botId: EnqueueBody.shape.botId }), {
      ...options,
      id: sessionId,
    });
    return { sessionId: id, botId: botOf({ botId }) };
  };

  async function* events({ after, signal }: EventsOptions): AsyncGenerator<SessionEvent, void, undefined> {
    signal?.throwIfAborted();
    // Known from the first on, so that nothing is missed however slowly events are taken.
    let position = after ?? (await call((connection) => connection.lastEventId()));
    while (!closing) {
      const subscription = await call(({ feed }) => feed.subscribe(position));
      const stop = () => subscription.close();
      const next = () =>
        subscription.next(EVENT_WAIT_MS).catch((error: unknown) => {
          throw asArchiverError(error);
        });
      signal?.addEventListener('abort', stop, { once: true });
      if (signal?.aborted) stop();
      try {
        for (let batch = await next(); batch; batch = await next()) {
          for (const event of batch) {
            signal?.throwIfAborted();
            position = event.id;
            yield event;
          }
        }
        signal?.throwIfAborted();
        // Left behind: so much was not taken that it is read again from the position on.
      } finally {
        signal?.removeEventListener('abort', stop);
        stop();
      }
    }
  }

  const close = async () => {
    await Promise.allSettled(calls);
    // A connection that failed to open needs no close, and its caller has the error.
    const connection = opening?.catch(() => undefined);
    const closed = Promise.resolve(connection).then((opened) => opened?.close());
    await within(settings.timeoutMs, closed).catch((error: unknown) => {
      if (!(error instanceof ArchiverError)) throw error;
      log.warn('still waiting for a queue that does not answer, to close the connection');
    });
  };

  const archiver: Archiver = {
    async enqueue(sessionIds, options: EnqueueOptions = {}) {
      const {
        sessionIds: ids,
        botId,
        priority = ids.length > LARGE_LIST ? 'backfill' : undefined,
        force,
        maybe,
      } = check(EnqueueBody, {
        ...options,
        sessionIds: typeof sessionIds === 'string' ? [sessionIds] : sessionIds,
      });
      const bot = botOf({ botId });
      return call(({ operations }) =>
        operations.enqueue(
          ids.map((sessionId) => ({
            sessionId,
            botId: bot,
            by: osUser(),
            ...(priority && { priority }),
            ...(force && { force }),
            ...(maybe && { maybe }),
          })),
        ),
      );
    },
    async get(sessionId, options = {}) {
      const session = refOf(sessionId, options);
      return call(({ operations }) => operations.view(session));
    },
    async list(options = {}) {
      const query = listQueryOf(check(ListQuerySchema, options));
      return call(({ operations }) => operations.list(query));
    },
    async retry(sessionId, options = {}) {
      const session = refOf(sessionId, options);
      return call(({ operations }) => operations.retry(session, osUser()));
    },
    async erase(sessionId, { botId, ...rest } = {}) {
      const session = refOf(sessionId, { botId });
      const { reason, dryRun } = check(EraseBody, rest);
      return call(({ custody }) =>
        required(custody).erase(session, {
          ...(reason !== undefined && { reason }),
          ...(dryRun && { dryRun }),
        }),
      );
    },
    async setHold(sessionId, { botId, ...rest } = {}) {
      const session = refOf(sessionId, { botId });
      const { reason } = check(HoldBody, rest);
      return call(({ custody }) => required(custody).setHold(session, reason, osUser()));
    },
    async releaseHold(sessionId, options = {}) {
      const session = refOf(sessionId, options);
      return call(({ custody }) => required(custody).releaseHold(session, osUser()));
    },
    async hold(sessionId, options = {}) {
      const session = refOf(sessionId, options);
      return call(({ custody }) => required(custody).hold(session));
    },
    stats: () => call(({ operations }) => operations.stats()),
    events: (options = {}) => events(options),
    check: () => call((connection) => connection.check()),
    close() {
      closing ??= close();
      return closing;
    },
    [Symbol.asyncDispose]: () => archiver.close(),
  };
  return archiver;
}

/** @throws ArchiverError with `INVALID_REQUEST` */
function required(custody: CustodyOperations | undefined): CustodyOperations {
  if (custody) return custody;
  throw invalid('what is erased and held lies in the archive: give archiveUrl to createArchiver');
}

/** @throws ArchiverError with `INVALID_REQUEST` */
function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalid(`the call is not valid: ${issuesText(parsed.error)}`);
}

function invalid(message: string): ArchiverError {
  return new ArchiverError('INVALID_REQUEST', message, { retryable: false });
}

/**
 * Not everything behind a call has a time limit of its own: a cluster's driver, for one, searches for nodes for ever.
 */
async function within<T>(milliseconds: number, answer: Promise<T>): Promise<T> {
  if (await withinTime(answer, milliseconds)) return answer;
  throw new ArchiverError('TIMEOUT', `neither queue nor archive answered within ${milliseconds} ms`, {
    retryable: true,
  });
}

/** The queue, and the archive where there is one, as this process has them open. */
interface Connection {
  readonly operations: Operations;
  /** Where there is an archive. */
  readonly custody: CustodyOperations | undefined;
  readonly feed: EventFeed;
  /** The id of the newest event, or one before all others. */
  lastEventId(): Promise<string>;
  /** Proves that queue and archive can be reached. */
  check(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens queue and archive.
 * @throws QueueUnavailableError, QueueHeldError
 */
async function openConnection(
  { queue: config, archive }: ArchiverSettings,
  log: Logger,
): Promise<Connection> {
  const { name } = config;
  const backend = await openBackend(config, log);
  // Who reads no archive need not load the AWS SDK.
  const store = archive && (await (await import('../storage/open.ts')).openStore(archive, { logger: log }));
  const queue = new SessionQueue(backend, name, log);
  const feed = new EventFeed(backend, name, log);
  return {
    operations: createOperations(queue, store, log),
    custody:
      store &&
      createCustodyOperations({
        queue,
        store,
        log,
        forgetNotifications: (session) => forgetNotifications(session, backend, name, log),
      }),
    feed,
    lastEventId: () => backend.lastEventId(name),
    async check() {
      await Promise.all([queue.check(), store?.check(new AbortController().signal)]);
    },
    async close() {
      await feed.close();
      await queue.close();
      await backend.close();
      await store?.close();
    },
  };
}

/** A line of the log, as far as it is looked into. */
interface Line {
  readonly level: string;
  readonly time: string;
  readonly msg?: string;
}

/** The program's logger. Its lines go, without secrets, to the given logger; without one, nowhere. */
function loggerTo(target: ArchiverLogger | undefined): Logger {
  if (!target) return createLogger('silent');
  return createLogger('debug', (text) => {
    const { level, time: _, msg = '', ...fields }: Line = JSON.parse(text);
    if (level === 'debug' || level === 'info' || level === 'warn') target[level](fields, msg);
    else target.error(fields, msg);
  });
}
