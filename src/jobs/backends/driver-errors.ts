import { systemCode } from '../../domain/errors.ts';
import { QueueUnavailableError } from './backend.ts';

/** ioredis' own errors of connections, by name; the cluster's when no node answers. */
const REDIS_NAMES: ReadonlySet<string> = new Set([
  'MaxRetriesPerRequestError',
  'ClusterAllFailedError',
  'AbortError',
]);

/** What a Redis server answers while it can't serve, by the first word (https://redis.io/docs/latest/develop/reference/protocol-spec/). */
const REDIS_REPLIES =
  /^(LOADING|READONLY|MISCONF|OOM|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|TRYAGAIN|BUSY|NOAUTH|NOPERM|WRONGPASS)\b/;

/** Errors of ioredis and pg that have neither name nor code. */
const CONNECTION_TEXTS =
  /^(Command timed out|Connection is closed|Stream isn't writeable|Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed)/;

/** System codes of connections: of sockets, and of the look-up of names. */
const NETWORK_CODES = /^(E(CONN|HOST|NET|PIPE|TIMEDOUT|AI_)|ENOTFOUND|ERR_(SSL|TLS|SOCKET))/;

/**
 * Classes of SQLSTATE that tell of the server and not of the statement: connection (08), authorisation (28), read-only
 * (25006), resources (53), intervention (57), system (58).
 * https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
const SQLSTATES = /^(08...|28...|25006|53...|57...|58...)$/;

/**
 * What a driver threw because the server can't be reached or can't serve, as a {@link QueueUnavailableError} without
 * a cause, since drivers put passwords into their errors. Everything else is returned as it is.
 */
export function asQueueError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof QueueUnavailableError || !isServerAway(error))
    return error;
  const isLost = error.name === 'MaxRetriesPerRequestError';
  const why = isLost ? 'the connection is lost, and is made again by itself' : error.message || error.name;
  return new QueueUnavailableError(`the queue cannot be reached: ${why}`);
}

function isServerAway(error: Error): boolean {
  const code = systemCode(error) ?? '';
  return (
    REDIS_NAMES.has(error.name) ||
    (error.name === 'ReplyError' && REDIS_REPLIES.test(error.message)) ||
    CONNECTION_TEXTS.test(error.message) ||
    NETWORK_CODES.test(code) ||
    SQLSTATES.test(code)
  );
}
