import {
  type BackendFactory,
  createPostgresBackend,
  type IQueueBackend,
  type PgPool,
  runMigrations,
} from 'bullmq';
import { type Backend, type JobStatus, MINUTES_KEPT } from './backend.ts';
import { indexSetup, sqlJobIndex } from './sql-index.ts';

/** Where BullMQ keeps its tables. */
export const QUEUE_SCHEMA = 'bullmq';

/** Serialises concurrent starters while they create our schema: the SHA-1 of its name, cut to an integer. */
const SETUP_LOCK = 1_482_916_034;

/**
 * The limit on calls as a sliding window over the times at which calls were taken, by the server's clock.
 * A function, so that it is one statement: in the embedded database everybody shares one session, and a
 * transaction of several statements would swallow those of others.
 */
const SETUP = `
select pg_advisory_xact_lock(${SETUP_LOCK});
create schema if not exists voicemail_archiver;
create table if not exists voicemail_archiver.call_limit (
  name text primary key,
  taken bigint[] not null default '{}',
  paused_until bigint not null default 0
);
create table if not exists voicemail_archiver.remembered (
  name text not null,
  text text not null,
  until timestamptz not null,
  primary key (name, text)
);
create table if not exists voicemail_archiver.board (
  name text not null,
  board text not null,
  id text not null,
  text text not null,
  at timestamptz not null,
  until timestamptz not null,
  primary key (name, board, id)
);
create or replace function voicemail_archiver.take_call(p_name text, p_calls int, p_window bigint)
returns bigint language plpgsql as $$
declare
  now_ms bigint;
  state voicemail_archiver.call_limit;
  recent bigint[];
begin
  insert into voicemail_archiver.call_limit (name) values (p_name) on conflict do nothing;
  select * into state from voicemail_archiver.call_limit where name = p_name for update;
  now_ms := (extract(epoch from clock_timestamp()) * 1000)::bigint;
  if state.paused_until > now_ms then return state.paused_until - now_ms; end if;
  recent := array(select t from unnest(state.taken) t where t > now_ms - p_window order by t);
  if cardinality(recent) < p_calls then
    update voicemail_archiver.call_limit set taken = recent || now_ms where name = p_name;
    return 0;
  end if;
  return greatest(1, recent[cardinality(recent) - p_calls + 1] + p_window - now_ms);
end $$;
`;

const TAKE_CALL = 'select voicemail_archiver.take_call($1, $2, $3) as wait';
const PAUSE_CALLS = `
insert into voicemail_archiver.call_limit (name, paused_until)
values ($1, (extract(epoch from clock_timestamp()) * 1000)::bigint + $2::bigint)
on conflict (name) do update set paused_until = greatest(call_limit.paused_until, excluded.paused_until)`;

/** Each insertion removes what is no longer needed. */
const REMEMBER = `
with expired as (delete from voicemail_archiver.remembered where until <= now())
insert into voicemail_archiver.remembered (name, text, until)
values ($1, $2, now() + $3::double precision * interval '1 millisecond')
on conflict (name, text) do update set until = greatest(remembered.until, excluded.until)`;
const REMEMBERS = `
select exists (
  select from voicemail_archiver.remembered where name = $1 and text = $2 and until > now()
) as found`;

const CALL_USAGE = `
select
  (select count(*) from unnest(taken) as t
    where t > (extract(epoch from clock_timestamp()) * 1000)::bigint - $2::bigint) as used,
  case when paused_until > (extract(epoch from clock_timestamp()) * 1000)::bigint then paused_until else 0 end as paused
from voicemail_archiver.call_limit where name = $1`;

const POST = `
with expired as (delete from voicemail_archiver.board where until <= now() and (name, board, id) <> ($1, $2, $3))
insert into voicemail_archiver.board (name, board, id, text, at, until)
values ($1, $2, $3, $4, now(), now() + $5::double precision * interval '1 millisecond')
on conflict (name, board, id) do update set text = excluded.text, at = excluded.at, until = excluded.until`;
const POSTS = `
select id, text, (extract(epoch from at) * 1000)::bigint as at
from voicemail_archiver.board where name = $1 and board = $2 and until > now()`;
const REMOVE_NOTE = 'delete from voicemail_archiver.board where name = $1 and board = $2 and id = $3';

const STATUSES = `
select id, state::text as state, priority from ${QUEUE_SCHEMA}.job where queue = $1 and id = any($2)`;

/**
 * The first job of each status, by the index that workers take from. BullMQ's own lists give the last one only by a
 * scan of the whole list.
 */
const OLDEST = `
select min(added_at_ms) as at from (
  (select added_at_ms from ${QUEUE_SCHEMA}.job
   where queue = $1 and state = 'waiting' and priority = 0 order by seq limit 1)
  union all
  (select added_at_ms from ${QUEUE_SCHEMA}.job
   where queue = $1 and state = 'waiting' and priority > 0 order by priority, seq limit 1)
) as first_of_each`;

/** The row is locked before the function runs, so that no worker takes the job in between. */
const SAVE_PROGRESS = `
with held as materialized (
  select id from ${QUEUE_SCHEMA}.job
  where queue = $1 and id = $2 and state = 'active' and lock_token = $3 for update
)
select ${QUEUE_SCHEMA}.update_progress($1, id, $4::jsonb) as updated from held`;
/** The row is locked as well, so that no process puts the job back into the queue in between. */
const NOTE_COMPLETED = `
with done as materialized (
  select id from ${QUEUE_SCHEMA}.job
  where queue = $1 and id = $2 and state = 'completed'
  and ($4::bigint = 0 or coalesce((progress->>'revision')::bigint, 0) <= $4::bigint) for update
)
select ${QUEUE_SCHEMA}.update_progress($1, id, $3::jsonb) as updated from done`;
/**
 * BullMQ's own reads the job first and changes it then: one that a worker has just taken would go back to the
 * others.
 */
const PROMOTE = `
with delayed as materialized (
  select id from ${QUEUE_SCHEMA}.job where queue = $1 and id = $2 and state = 'delayed' for update
)
select ${QUEUE_SCHEMA}.promote($1, id) as code from delayed`;
/** A delayed job has its place by the time when it was added, and takes it once a worker asks for a job. */
const PUT_IN_FRONT = `
update ${QUEUE_SCHEMA}.job set process_at_ms = 0
where queue = $1 and id = any($2) and state = 'delayed' and priority = 0`;
const FORGET_STALLS = `
update ${QUEUE_SCHEMA}.job set stalled_count = 0, deferred_failure = null where queue = $1 and id = $2`;

const LAST_EVENT = `select coalesce(max(id), 0)::text as id from ${QUEUE_SCHEMA}.event where queue = $1`;
/** How long a transaction may take from numbering its events to its end; events of a longer one are missed. */
const EVENT_GRACE_MS = 5_000;

/**
 * Events are numbered when they are written and seen when their transaction ends, so a higher number may be seen first.
 * Whoever went on from there would never see the lower ones: so nothing is read beyond a gap in the numbers, which all
 * queues share, before it is so old that nothing will fill it (what wrote there was rolled back).
 */
const EVENTS_AFTER = `
with recursive page as (
  select id, event, data, created_at_ms from ${QUEUE_SCHEMA}.event
  where queue = $1 and id > $2 order by id limit $3
), queues as (
  (select queue from ${QUEUE_SCHEMA}.event order by queue limit 1)
  union all
  select (select min(next.queue) from ${QUEUE_SCHEMA}.event as next where next.queue > queues.queue)
  from queues where queues.queue is not null
), gap as (
  select min(id) as id from page
  where id > $2::bigint + 1
  and created_at_ms > (extract(epoch from statement_timestamp()) * 1000)::bigint - ${EVENT_GRACE_MS}
  and not exists (
    select from queues join ${QUEUE_SCHEMA}.event as before
    on before.queue = queues.queue and before.id = page.id - 1
  )
)
select id::text as id, event, data from page
where page.id < coalesce((select gap.id from gap), ${Number.MAX_SAFE_INTEGER})
order by page.id`;

/** How BullMQ reads events, with the parameters of {@link EVENTS_AFTER}. */
const BULLMQ_EVENTS_AFTER = /\bFROM event\s+WHERE queue = \$1 AND id > \$2\s/;

/** BullMQ's own query leaves out since when it has counted. */
const MINUTE_COUNTS = `
select count - prev_count as latest, prev_ts as latest_at, data[1:$3] as earlier
from ${QUEUE_SCHEMA}.metrics where queue = $1 and kind = $2`;

const FAILURE_COUNTS = `
select split_part(coalesce(failed_reason, ''), ':', 1) as reason, count(*) as jobs
from (
  select failed_reason from ${QUEUE_SCHEMA}.job
  where queue = $1 and state = 'failed' order by finished_at_ms desc limit $2
) as latest
group by 1`;

/** Creates or updates BullMQ's tables and our own. Needs the right to create schemas. */
export async function prepareDatabase(pool: PgPool): Promise<void> {
  const client = await pool.connect();
  try {
    await runMigrations(client, QUEUE_SCHEMA, {});
    // One message, so one transaction: the lock holds until all of it is there.
    await client.query(`${SETUP}${indexSetup(QUEUE_SCHEMA)}`);
  } finally {
    client.release();
  }
}

/** What the PostgreSQL and the embedded backend have in common: BullMQ's PostgreSQL backend over a pool. */
export function sqlBackend(
  pool: PgPool,
  prefix: string | undefined,
  rest: Pick<Backend, 'location' | 'shared' | 'reportFault' | 'close'>,
): Backend {
  // PostgreSQL has a schema where Redis has a prefix, so a prefix of one's own goes into the name.
  const queueName = (name: string) => (prefix === undefined ? name : `${prefix}.${name}`);
  return {
    ...rest,
    factory: createPostgresBackend as unknown as BackendFactory<IQueueBackend, unknown>,
    queueName,
    options: (role) => ({ connection: role === 'listener' ? listenerPool(pool) : pool }),
    // One statement after the other on each connection: there is nothing to send together.
    activeJobsChanged: () => undefined,
    async statuses(queue, ids) {
      const { rows } = await pool.query<{ id: string; state: string; priority: number }>(STATUSES, [
        queue.name,
        ids,
      ]);
      return new Map(rows.map(({ id, state, priority }) => [id, status(state, priority)]));
    },
    async oldestQueuedAt(queue) {
      const { rows } = await pool.query<{ at: BigInteger | null }>(OLDEST, [queue.name]);
      return Number(rows[0]?.at ?? 0) || undefined;
    },
    async saveProgress(name, jobId, token, progress) {
      const { rows } = await pool.query(SAVE_PROGRESS, [
        queueName(name),
        jobId,
        token,
        JSON.stringify(progress),
      ]);
      return rows.length === 1;
    },
    async noteCompleted(name, jobId, progress) {
      const { rows } = await pool.query(NOTE_COMPLETED, [
        queueName(name),
        jobId,
        JSON.stringify(progress),
        progress.revision ?? 0,
      ]);
      return rows.length === 1;
    },
    async promote(queue, jobId) {
      const { rows } = await pool.query<{ code: number }>(PROMOTE, [queue.name, jobId]);
      return rows[0]?.code === 0;
    },
    async putInFront(name, jobIds) {
      await pool.query(PUT_IN_FRONT, [queueName(name), jobIds]);
    },
    async forgetStalls(name, jobId) {
      await pool.query(FORGET_STALLS, [queueName(name), jobId]);
    },
    async lastEventId(name) {
      const { rows } = await pool.query<{ id: string }>(LAST_EVENT, [queueName(name)]);
      return rows[0]?.id ?? '0';
    },
    async eventsAfter(name, after, limit) {
      const { rows } = await pool.query<EventRow>(EVENTS_AFTER, [queueName(name), after, limit]);
      return rows.map(({ id, event, data }) => ({ id, fields: { ...data, event } }));
    },
    isEventId: (text) => /^\d{1,15}$/.test(text),
    async minuteCounts(queue, outcome) {
      const { rows } = await pool.query<MinutesRow>(MINUTE_COUNTS, [queue.name, outcome, MINUTES_KEPT]);
      const [{ latest, latest_at: latestAt, earlier } = NO_MINUTES] = rows;
      return {
        latestAt: latestAt === null ? undefined : Number(latestAt),
        latest: Number(latest),
        earlier: earlier.map(Number),
      };
    },
    index: sqlJobIndex(pool, QUEUE_SCHEMA, queueName),
    async failureCounts(queue, limit) {
      const { rows } = await pool.query<FailuresRow>(FAILURE_COUNTS, [queue.name, limit]);
      return new Map(rows.map(({ reason, jobs }) => [reason, Number(jobs)]));
    },
    async takeCall(name, calls, windowMs) {
      const { rows } = await pool.query<{ wait: string | number }>(TAKE_CALL, [name, calls, windowMs]);
      return Number(rows[0]?.wait ?? 0);
    },
    async pauseCalls(name, milliseconds) {
      await pool.query(PAUSE_CALLS, [name, Math.ceil(milliseconds)]);
    },
    async remember(name, text, milliseconds) {
      await pool.query(REMEMBER, [queueName(name), text, milliseconds]);
    },
    async remembers(name, text) {
      const { rows } = await pool.query<{ found: boolean }>(REMEMBERS, [queueName(name), text]);
      return rows[0]?.found === true;
    },
    async callUsage(name, windowMs) {
      const { rows } = await pool.query<UsageRow>(CALL_USAGE, [name, windowMs]);
      const [{ used, paused } = { used: 0, paused: 0 }] = rows;
      return { used: Number(used), pausedUntil: Number(paused) || undefined };
    },
    async post(name, board, { id, text }, milliseconds) {
      await pool.query(POST, [queueName(name), board, id, text, milliseconds]);
    },
    async posts(name, board) {
      const { rows } = await pool.query<NoteRow>(POSTS, [queueName(name), board]);
      return rows.map(({ at, ...note }) => ({ ...note, at: Number(at) }));
    },
    async removeNote(name, board, id) {
      await pool.query(REMOVE_NOTE, [queueName(name), board, id]);
    },
    async check() {
      await pool.query('select 1');
    },
  };
}

interface EventRow {
  readonly id: string;
  readonly event: string;
  readonly data: Readonly<Record<string, string>>;
}

/** The drivers give `bigint` as text or as number, each in its own way. */
type BigInteger = string | number;

interface MinutesRow {
  readonly latest: BigInteger;
  readonly latest_at: BigInteger | null;
  readonly earlier: readonly BigInteger[];
}

const NO_MINUTES: MinutesRow = { latest: 0, latest_at: null, earlier: [] };

interface UsageRow {
  readonly used: BigInteger;
  readonly paused: BigInteger;
}

interface NoteRow {
  readonly id: string;
  readonly text: string;
  readonly at: BigInteger;
}

interface FailuresRow {
  readonly reason: string;
  readonly jobs: BigInteger;
}

/**
 * The pool for a part of BullMQ that is closed before the pool is: BullMQ listens for errors of a pool it is
 * given and never stops. They are logged where the pool is opened. It reads events as we do, without missing any.
 */
function listenerPool(pool: PgPool): PgPool {
  const part: PgPool = {
    query: (text, params) => pool.query(BULLMQ_EVENTS_AFTER.test(text) ? EVENTS_AFTER : text, params),
    connect: () => pool.connect(),
    // A pool that was passed in is not closed here.
    end: async () => undefined,
    on: () => part,
    removeAllListeners: () => part,
  };
  return part;
}

function status(state: string, priority: number): JobStatus {
  if (state === 'completed' || state === 'failed') return state;
  return priority > 0 ? 'backfill' : 'live';
}
