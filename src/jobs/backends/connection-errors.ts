import { systemCode } from '../../domain/errors.ts';
import { withinTime } from '../../util/async.ts';
import type { Logger } from '../../util/log.ts';
import { type Backend, QueueUnavailableError } from './backend.ts';

/** ioredis' own errors of connections, by name; the cluster's when no node answers. */
const REDIS_NAMES: ReadonlySet<string> = new Set([
  'MaxRetriesPerRequestError',
  'ClusterAllFailedError',
  'AbortError',
]);

/**
 * What a Redis server answers while it can't serve, by the first word
 * (https://redis.io/docs/latest/develop/reference/protocol-spec/).
 */
const REDIS_REPLIES =
  /^(LOADING|READONLY|MISCONF|OOM|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|TRYAGAIN|BUSY|NOAUTH|NOPERM|WRONGPASS)\b/;

/** Errors of ioredis and pg that have neither name nor code. */
const CONNECTION_TEXTS =
  /^(Command timed out|Connection is closed|Too many Cluster redirections|Stream isn't writeable|Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed)/;

/** System codes of connections: of sockets, and of the look-up of names. */
const NETWORK_CODES = /^(E(CONN|HOST|NET|PIPE|TIMEDOUT|AI_)|ENOTFOUND|ERR_(SSL|TLS|SOCKET))/;

/**
 * Classes of SQLSTATE that concern the server and not the statement: connection (08), authorisation (28), read-only
 * (25006), resources (53), intervention (57), system (58).
 * https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
const SQLSTATES = /^(08...|28...|25006|53...|57...|58...)$/;

/**
 * What a driver threw because the server can't be reached or can't serve, as a {@link QueueUnavailableError} without
 * a cause, since drivers put passwords into their errors. Everything else is returned as it is.
 */
export function asQueueError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof QueueUnavailableError || !isServerUnavailable(error))
    return error;
  const isLost = error.name === 'MaxRetriesPerRequestError';
  const why = isLost ? 'the connection is lost, and is made again by itself' : error.message || error.name;
  return new QueueUnavailableError(`the queue cannot be reached: ${why}`);
}

function isServerUnavailable(error: Error): boolean {
  const code = systemCode(error) ?? '';
  return (
    REDIS_NAMES.has(error.name) ||
    (error.name === 'ReplyError' && REDIS_REPLIES.test(error.message)) ||
    CONNECTION_TEXTS.test(error.message) ||
    NETWORK_CODES.test(code) ||
    SQLSTATES.test(code)
  );
}

/** Logs the state of a connection, without a line for each attempt to reconnect. */
export interface ConnectionLog {
  /** Something failed: a line for each kind of failure, and a count until it works again. */
  failed(error: Error): void;
  /** It works; a line if it did not. */
  works(): void;
}

/** @param location of the server, without passwords. */
export function createConnectionLog(location: string, log: Logger): ConnectionLog {
  const logged = new Set<string>();
  let failures = 0;
  return {
    failed(error) {
      failures += 1;
      // The same failure of another attempt has other numbers in it.
      const kind = error.message.replace(/\d+/g, '#');
      if (logged.has(kind)) return;
      logged.add(kind);
      log.warn(
        { queue: location, err: error },
        'queue connection failed; failures of this kind are only counted from now on, until it works again',
      );
    },
    works() {
      if (failures > 0) log.info({ queue: location, failures }, 'the queue can be reached again');
      failures = 0;
      logged.clear();
    },
  };
}

/** The error listener of a part of BullMQ: errors of connections go to the backend, all others are logged. */
export function errorListener(backend: Backend, log: Logger): (error: Error) => void {
  return (error) => {
    if (asQueueError(error) instanceof QueueUnavailableError) backend.reportFault(error);
    else log.warn({ queue: backend.location, err: error }, 'queue error');
  };
}

/** How long a caller of `enqueue` waits for one answer of the queue. */
const ANSWER_TIMEOUT_MS = 5_000;

/**
 * Waits for an answer of the queue, but not for ever: neither Redis' driver nor PostgreSQL's notices within seconds
 * that a server hangs. What was asked may still be done later; asking for it again is safe.
 *
 * @throws QueueUnavailableError when there is none in time.
 */
export async function answered<T>(answer: Promise<T>): Promise<T> {
  if (await withinTime(answer, ANSWER_TIMEOUT_MS)) return answer;
  // The caller gets the error below. A later failure of the answer changes nothing.
  answer.catch(() => undefined);
  throw new QueueUnavailableError(`the queue gave no answer within ${ANSWER_TIMEOUT_MS / 1000} s`);
}
