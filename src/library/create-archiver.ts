import type { z } from 'zod';
import { EnqueueBody, ListQuery, SessionParams } from '../api/schemas.ts';
import { sayFaults } from '../api/validation.ts';
import type { SessionEvent } from '../jobs/session-event.ts';
import type { SessionRef } from '../session.ts';
import { withinTime } from '../within-time.ts';
import type { Archiver, ArchiverOptions, BotOptions, EnqueueOptions, EventsOptions } from './archiver.ts';
import { ArchiverError } from './archiver-error.ts';
import { type Connection, openConnection } from './connection.ts';
import { asArchiverError } from './errors.ts';
import { loggerTo } from './log.ts';
import { readOptions } from './options.ts';

/** How long a reader of events sleeps at most before it looks again. */
const EVENT_WAIT_MS = 60_000;

/**
 * A client of the queue of voicemails, which needs neither Kore's credentials nor the HTTP API. Whatever it queues is
 * archived by the workers on the same queue.
 *
 * It connects with the first call, and again by itself after an outage; so this returns at once, also while the queue
 * is away. Close it when it is not needed any more: the process stays for its connections.
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
    // What could not be opened need not be closed, and its caller was told.
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
        priority,
        force,
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
            ...(priority && { priority }),
            ...(force && { force }),
          })),
        ),
      );
    },
    async get(sessionId, options = {}) {
      const session = refOf(sessionId, options);
      return call(({ operations }) => operations.view(session));
    },
    async list(options = {}) {
      const { state, code, limit, cursor } = check(ListQuery, options);
      return call(({ operations }) =>
        operations.list({
          ...(state && { state }),
          ...(code && { code }),
          ...(limit && { limit }),
          ...(cursor && { cursor }),
        }),
      );
    },
    async retry(sessionId, options = {}) {
      const session = refOf(sessionId, options);
      return call(({ operations }) => operations.retry(session));
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
function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalid(`the call is not valid: ${sayFaults(parsed.error)}`);
}

function invalid(message: string): ArchiverError {
  return new ArchiverError('INVALID_REQUEST', message, { retryable: false });
}

/** Not everything behind a call has a time limit of its own: a cluster's driver, for one, looks for nodes for ever. */
async function within<T>(milliseconds: number, answer: Promise<T>): Promise<T> {
  if (await withinTime(answer, milliseconds)) return answer;
  throw new ArchiverError('TIMEOUT', `neither queue nor archive answered within ${milliseconds} ms`, {
    retryable: true,
  });
}
