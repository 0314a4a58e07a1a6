import { randomUUID } from 'node:crypto';
import { MINIMUM_POSTGRES_VERSION, RECOMMENDED_POSTGRES_VERSION } from 'bullmq';
import { Client } from 'pg';
import { unlessAborted } from '../util/async.ts';
import { type CheckFault, type CheckResult, failed, ok, warning } from './check.ts';

const NAME = 'queue';

/** Whether the queue on a PostgreSQL server can be used. @param url may hold a password, which is never shown. */
export async function checkPostgres(url: string, signal: AbortSignal): Promise<readonly CheckResult[]> {
  const { host, pathname } = new URL(url);
  const location = `postgres://${host}${pathname}`;
  let found: PostgresFindings;
  try {
    found = await inspectPostgres(url, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    const { message, fix } = connectionFault(error as Error);
    return [failed(NAME, `no use of ${location}: ${message}`, fix)];
  }
  return [judge(found, location)];
}

function judge(found: PostgresFindings, location: string): CheckResult {
  const { age, oldest, isReplica, writeFault } = found;
  const what = `PostgreSQL ${found.version} at ${location}`;
  if (age === 'too old') {
    return failed(NAME, `${what} is too old`, `upgrade the server to ${oldest.possible} or newer`);
  }
  if (isReplica) {
    return failed(NAME, `${what} is a standby, which takes no writes`, 'name the primary in QUEUE_URL');
  }
  if (writeFault) {
    const isReadOnly = 'code' in writeFault && writeFault.code === '25006';
    return failed(
      NAME,
      `${what}: a schema, a table and a row could not be made (${writeFault.message})`,
      isReadOnly
        ? 'set default_transaction_read_only to off for the database and the user'
        : `grant create on database "${found.database}" to "${found.user}"; the schemas bullmq and voicemail_archiver must be that user's`,
    );
  }
  if (age === 'old') {
    return warning(NAME, `${what} is old`, `upgrade the server to ${oldest.recommended} or newer`);
  }
  return ok(NAME, `${what}: a schema could be made, written to and taken back`);
}

const START = 'start the server, or correct host and port in QUEUE_URL';

/** By the system's code, or the server's (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const MEANINGS: Readonly<Record<string, CheckFault>> = {
  ECONNREFUSED: { message: 'nothing listens there', fix: START },
  ENOTFOUND: { message: 'there is no such host name', fix: START },
  EAI_AGAIN: { message: 'there is no such host name', fix: START },
  '28P01': { message: 'the password is wrong', fix: 'correct user and password in QUEUE_URL' },
  '28000': {
    message: 'the user may not log in from here, or not this way',
    fix: 'correct the user in QUEUE_URL (and ?sslmode=), or the server in pg_hba.conf',
  },
  '3D000': { message: 'there is no such database', fix: 'create it, or correct QUEUE_URL' },
  '42501': { message: 'the user may not connect to it', fix: 'grant connect on the database to that user' },
  '53300': { message: 'it has no connection left', fix: 'raise max_connections, or close others' },
  '57P03': { message: 'it is just starting or stopping', fix: 'wait until it has started' },
};

function connectionFault(error: Error): CheckFault {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const meaning = MEANINGS[code];
  const detail = error.message || code || error.name;
  if (meaning) return { message: `${meaning.message} (${detail})`, fix: meaning.fix };
  if (/CERT|SELF_SIGNED|ISSUER|UNABLE_TO/.test(code)) {
    const fix = 'name its authority in NODE_EXTRA_CA_CERTS, or see ?sslmode= and ?sslrootcert= of QUEUE_URL';
    return { message: `its certificate is not trusted (${code})`, fix };
  }
  // These two are pg's own words.
  if (/password must be a/.test(detail)) {
    return { message: `the server wants a password (${detail})`, fix: 'write the password into QUEUE_URL' };
  }
  if (/does not support SSL/.test(detail)) {
    const fix = 'take ?sslmode= out of QUEUE_URL, or switch TLS on in the server (ssl = on)';
    return { message: `it does not speak TLS (${detail})`, fix };
  }
  return {
    message: `no answer (${detail})`,
    fix: 'check the network between here and there, QUEUE_URL and its ?sslmode=',
  };
}

const CONNECT_TIMEOUT_MS = 5_000;
const QUERY_TIMEOUT_MS = 10_000;

/** What was found. */
interface PostgresFindings {
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
 * The right to make schemas is needed even where the queue's are there: `create schema if not exists` asks for it
 * first.
 *
 * @throws the error of the connection, as pg and the server word it; the signal's reason when aborted.
 */
async function inspectPostgres(url: string, signal: AbortSignal): Promise<PostgresFindings> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    application_name: 'voicemail-archiver doctor',
  });
  const broken = new Promise<never>((_, reject) => client.on('error', reject));
  try {
    return await unlessAborted(Promise.race([inspect(client), broken]), signal);
  } finally {
    // Not waited for: the server may be the one who does not answer.
    client.end().catch(() => undefined);
  }
}

async function inspect(client: Client): Promise<PostgresFindings> {
  await client.connect();
  const { rows } = await client.query<FactsRow>(FACTS);
  const [facts] = rows;
  if (!facts) throw new Error('the server reports nothing about itself');
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
