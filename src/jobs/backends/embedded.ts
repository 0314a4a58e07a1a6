import { EventEmitter } from 'node:events';
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { PGlite } from '@electric-sql/pglite';
import type { PgPool, PgPoolClient, PgQueryResult } from 'bullmq';
import type { Logger } from '../../util/log.ts';
import { importOptional, PackageMissingError } from '../../util/optional-package.ts';
import { type Backend, QueueHeldError, QueueUnavailableError } from './backend.ts';
import { createConnectionLog } from './connection-errors.ts';
import { prepareDatabase, QUEUE_SCHEMA, sqlBackend } from './sql.ts';

/**
 * PostgreSQL's own cache, above the operating system's. All of it is written to at the start, so that the default of
 * 128 MB costs every command that opens the queue as much memory, and half of the time that opening takes.
 */
const SHARED_BUFFERS = '16MB';

/**
 * Loads PGlite, which small installations leave out.
 * @throws PackageMissingError
 */
export function loadDatabase(): Promise<typeof import('@electric-sql/pglite')> {
  return importOptional('@electric-sql/pglite', () => import('@electric-sql/pglite'));
}

/**
 * The queue in a directory, without a server: BullMQ's PostgreSQL backend over PGlite (PostgreSQL in
 * WebAssembly, in this process). It belongs to one process at a time.
 * @throws QueueHeldError when that is another one.
 */
export async function openEmbeddedBackend(
  target: { readonly directory: string },
  prefix: string | undefined,
  log: Logger,
): Promise<Backend> {
  const directory = resolve(target.directory);
  const connectionLog = createConnectionLog(`embedded:${directory}`, log);
  const release = holdDirectory(directory);
  try {
    const data = join(directory, 'pgdata');
    assertNoLink(data);
    // PGlite's files are writable for all users, so their directory is closed to other users.
    mkdirSync(data, { recursive: true, mode: 0o700 });
    const { PGlite: Database } = await loadDatabase();
    const database = await Database.create(data, {
      startParams: [...Database.defaultStartParams, '-c', `shared_buffers=${SHARED_BUFFERS}`],
    });
    const pool = new EmbeddedPool(database);
    await prepareDatabase(pool);
    await database.exec(`set search_path to ${QUEUE_SCHEMA}, public`);
    return sqlBackend(pool, prefix, {
      location: `embedded:${directory}`,
      shared: false,
      reportFault: (error) => connectionLog.failed(error),
      async close() {
        await database.close();
        release();
      },
    });
  } catch (error) {
    release();
    if (error instanceof PackageMissingError) {
      throw new QueueUnavailableError(
        `cannot open the embedded queue: ${error.message}; or set QUEUE_URL to Redis or PostgreSQL`,
        { cause: error },
      );
    }
    throw new QueueUnavailableError(
      `cannot open the embedded queue in ${directory}: ${(error as Error).message}; check that the directory is writable and not full`,
      { cause: error },
    );
  }
}

/**
 * Takes an exclusive lock on the directory and returns the function that releases it.
 *
 * An exclusive SQLite transaction is the one file lock of the operating system that Node offers. Unlike a file
 * with a process id it is gone the moment its process is, however that ended, and holds across containers
 * that share the directory.
 */
export function holdDirectory(directory: string): () => void {
  let lock: DatabaseSync | undefined;
  try {
    // What is queued names sessions and callers; a directory that was there before may be open to everybody.
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    chmodSync(directory, 0o700);
    const path = join(directory, 'lock');
    assertNoLink(path);
    lock = new DatabaseSync(path);
    lock.exec('BEGIN EXCLUSIVE');
    const held = lock;
    return () => held.close();
  } catch (error) {
    lock?.close();
    if (/database is locked/.test((error as Error).message))
      throw new QueueHeldError(directory, { cause: error });
    throw new QueueUnavailableError(
      `cannot open the embedded queue in ${directory}: ${(error as Error).message}; check that the directory is writable`,
      { cause: error },
    );
  }
}

/** Files behind a symbolic link may belong to another program. The queue's directory itself may be a link. */
function assertNoLink(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) {
    throw new Error(`${path} is a symbolic link, where the queue keeps its own files`);
  }
}

/**
 * PGlite in the shape of a `pg.Pool`, as far as BullMQ uses one. There is one session underneath, so every
 * "client" is the same database; PGlite itself runs one statement at a time.
 */
class EmbeddedClient extends EventEmitter {
  protected readonly database: PGlite;

  constructor(database: PGlite) {
    super();
    this.database = database;
    this.setMaxListeners(0);
  }

  async query<R>(text: string, params?: readonly unknown[]): Promise<PgQueryResult<R>> {
    if (params) return this.database.query<R>(text, [...params]);
    // Without parameters a text may hold several statements, as in PostgreSQL's simple protocol.
    const results = await this.database.exec(text);
    return (results.at(-1) ?? { rows: [] }) as PgQueryResult<R>;
  }
}

class EmbeddedPoolClient extends EmbeddedClient implements PgPoolClient {
  readonly #onRelease: (client: EmbeddedPoolClient) => void;

  constructor(database: PGlite, onRelease: (client: EmbeddedPoolClient) => void) {
    super(database);
    this.#onRelease = onRelease;
  }

  release(): void {
    this.#onRelease(this);
  }
}

class EmbeddedPool extends EmbeddedClient implements PgPool {
  readonly #clients = new Set<EmbeddedPoolClient>();

  constructor(database: PGlite) {
    super(database);
    database.onNotification((channel, payload) => {
      for (const client of this.#clients) client.emit('notification', { channel, payload });
    });
  }

  async connect(): Promise<PgPoolClient> {
    const client = new EmbeddedPoolClient(this.database, (released) => this.#clients.delete(released));
    this.#clients.add(client);
    return client;
  }

  async end(): Promise<void> {
    this.#clients.clear();
  }
}
