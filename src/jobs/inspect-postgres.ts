/** What a PostgreSQL server says of itself, and whether the queue's schemas can be made in it: for `doctor`. */

import { randomUUID } from 'node:crypto';
import { MINIMUM_POSTGRES_VERSION, RECOMMENDED_POSTGRES_VERSION } from 'bullmq';
import { Client } from 'pg';
import { unlessAborted } from '../unless-aborted.ts';

const CONNECT_TIMEOUT_MS = 5_000;
const QUERY_TIMEOUT_MS = 10_000;

/** What was found. */
export interface PostgresFindings {
  /** `16.4 (Debian 16.4-1)` */
  readonly version: string;
  readonly age: 'too old' | 'old' | 'new enough';
  /** The oldest major version that BullMQ works with, and the oldest that it is meant for. */
  readonly oldest: { readonly possible: number; readonly recommended: number };
  /** A standby, which takes no writes. */
  readonly isReplica: boolean;
  readonly user: string;
  readonly database: string;
  /** Why a schema, a table in it and a row in that could not be made; `undefined` where that went well. */
  readonly writeFault: Error | undefined;
}

const FACTS = `
select current_setting('server_version') as version,
  current_setting('server_version_num')::int / 10000 as major,
  pg_is_in_recovery() as "isReplica",
  current_user::text as "user",
  current_database()::text as database`;

interface FactsRow {
  readonly version: string;
  readonly major: number;
  readonly isReplica: boolean;
  readonly user: string;
  readonly database: string;
}

/**
 * Connects, asks, makes a schema with a table in it, and takes all of that back.
 *
 * The right to make schemas is needed even where the queue's are there: `create schema if not exists` asks for it first.
 *
 * @throws the error of the connection, as pg and the server word it; the signal's reason when aborted.
 */
export async function inspectPostgres(url: string, signal: AbortSignal): Promise<PostgresFindings> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    application_name: 'voicemail-archiver doctor',
  });
  const broken = new Promise<never>((_, reject) => client.on('error', reject));
  try {
    return await unlessAborted(Promise.race([look(client), broken]), signal);
  } finally {
    // Not waited for: the server may be the one who does not answer.
    client.end().catch(() => undefined);
  }
}

async function look(client: Client): Promise<PostgresFindings> {
  await client.connect();
  const { rows } = await client.query<FactsRow>(FACTS);
  const [facts] = rows;
  if (!facts) throw new Error('the server tells nothing of itself');
  const { major, ...rest } = facts;
  const age =
    major < MINIMUM_POSTGRES_VERSION
      ? 'too old'
      : major < RECOMMENDED_POSTGRES_VERSION
        ? 'old'
        : 'new enough';
  return {
    ...rest,
    age,
    oldest: { possible: MINIMUM_POSTGRES_VERSION, recommended: RECOMMENDED_POSTGRES_VERSION },
    writeFault: await tryWrite(client),
  };
}

async function tryWrite(client: Client): Promise<Error | undefined> {
  const schema = `voicemail_archiver_doctor_${randomUUID().replaceAll('-', '')}`;
  try {
    await client.query('begin');
    await client.query(`create schema ${schema}`);
    await client.query(`create table ${schema}.probe (value int)`);
    await client.query(`insert into ${schema}.probe values (1)`);
    await client.query('rollback');
    return undefined;
  } catch (error) {
    // The transaction ends with the connection.
    return error as Error;
  }
}
