import type { PgPool } from 'bullmq';
import { Pool } from 'pg';
import type { Logger } from '../../util/log.ts';
import { type Backend, QueueUnavailableError } from './backend.ts';
import { createConnectionLog } from './connection-errors.ts';
import { prepareDatabase, QUEUE_SCHEMA, sqlBackend } from './sql.ts';

const CONNECT_TIMEOUT_MS = 5_000;
/** No statement of BullMQ's takes longer by far; one that does has lost its server. */
const QUERY_TIMEOUT_MS = 30_000;
/** Each worker and each listener for events keeps one connection of the pool to itself. */
const POOL_SIZE = 20;
/** PostgreSQL took a statement back, since it and another process's waited for each other (SQLSTATE). */
const DEADLOCK = '40P01';
/** How often a statement is tried before its deadlock is an error; PostgreSQL takes a second to detect each. */
const DEADLOCK_TRIES = 10;

/** The queue on a PostgreSQL server, through BullMQ's PostgreSQL backend and node-postgres. */
export async function openPostgresBackend(
  url: string,
  prefix: string | undefined,
  log: Logger,
): Promise<Backend> {
  const { protocol, host, pathname } = new URL(url);
  const location = `${protocol}//${host}${pathname}`;
  const pool = new Pool({
    connectionString: url,
    max: POOL_SIZE,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    keepAlive: true,
    application_name: 'voicemail-archiver',
    // Not as a parameter of the connection, which PgBouncer refuses.
    async onConnect(client) {
      await client.query(`set search_path to ${QUEUE_SCHEMA}, public`);
    },
  });
  const bullmqPool = pool as unknown as PgPool;
  const query = bullmqPool.query.bind(bullmqPool);
  bullmqPool.query = (text, params) => throughDeadlocks(() => query(text, params));
  // Each part of BullMQ listens for errors of the pool as well, more than Node expects of one emitter.
  pool.setMaxListeners(0);
  const connectionLog = createConnectionLog(location, log);
  pool.on('error', (error) => connectionLog.failed(error));
  pool.on('connect', (client) => {
    // The pool listens for errors of those that lie idle only; without a listener, Node ends the program.
    client.on('error', (error) => connectionLog.failed(error));
    connectionLog.works();
  });
  try {
    await prepareDatabase(bullmqPool);
  } catch (error) {
    await pool.end();
    throw new QueueUnavailableError(
      `cannot open the queue at ${location}: ${(error as Error).message || String(error)}; check QUEUE_URL, that the server runs, and that the user may create schemas`,
      { cause: error },
    );
  }
  return sqlBackend(bullmqPool, prefix, {
    location,
    shared: true,
    reportFault: (error) => connectionLog.failed(error),
    close: () => pool.end(),
  });
}

/** What a pool runs are statements that are transactions of their own, so one that was taken back may be run again. */
async function throughDeadlocks<T>(run: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await run();
    } catch (error) {
      const isDeadlock = error instanceof Error && 'code' in error && error.code === DEADLOCK;
      if (!isDeadlock || tries === DEADLOCK_TRIES) throw error;
    }
  }
}
