import type { ErrorCode } from '../domain/errors.ts';
import type { ArchiverStats, Health } from '../domain/requests.ts';
import type { BreakerView } from '../domain/views.ts';

/** The facts that decide on the health. */
export interface HealthFacts extends Omit<ArchiverStats, 'health' | 'breakers'> {
  /** Open breakers of any worker. */
  readonly openBreakers: readonly BreakerView[];
  /** Why workers take no session at present. */
  readonly heldFor?: ErrorCode;
}

/** Minutes without an archived session, though some are queued, after which a person must act. */
const IDLE_MINUTES = 10;
/** The minutes, and the fewest sessions, that decide whether most sessions fail. */
const FAILING_MINUTES = 5;
const FAILING_SESSIONS = 5;
/** Minutes that are reported when all is well. */
const LATEST_MINUTES = 2;

/**
 * The overall state, in one sentence; of several faults, the first one to fix.
 * @param now unix milliseconds.
 */
export function healthOf(facts: HealthFacts, now: number): Health {
  const { states, paused, pausedSince, workers, backlog, rateLimit } = facts;
  const waiting = count(backlog.sessions, 'session waits', 'sessions wait');
  if (paused) {
    const since = pausedSince ? ` since ${clock(pausedSince, now)}` : '';
    return { level: 'waiting', text: `Paused${since}: ${waiting}.` };
  }
  if (workers.length === 0 && backlog.sessions > 0) {
    const queued = count(backlog.sessions, 'session is queued', 'sessions are queued');
    return { level: 'trouble', text: `No worker is alive: ${queued}.` };
  }
  if (facts.heldFor === 'KORE_UNAUTHORIZED') {
    return { level: 'trouble', text: `Kore refuses the credentials: ${waiting}.` };
  }
  const refusing = facts.openBreakers.find(({ code }) => code === 'ARCHIVE_DENIED');
  const missing = refusing ?? facts.openBreakers.find(({ dependency }) => dependency !== 'queue');
  if (missing) {
    const since = missing.since ? ` since ${clock(missing.since, now)}` : '';
    return {
      level: refusing || !isMedia(missing) ? 'trouble' : 'waiting',
      text: `${complaint(missing)}${since}: ${waiting}.`,
    };
  }
  if (rateLimit?.limitedUntil !== undefined) {
    const until = clock(rateLimit.limitedUntil, now);
    return { level: 'waiting', text: `Waiting for Kore's rate limit until ${until}: ${waiting}.` };
  }
  return paceOf(facts, states.queued, now);
}

/** Everything is available: how sessions have ended lately. */
function paceOf({ throughput, oldestQueuedAt, backlog }: HealthFacts, queued: number, now: number): Health {
  const lately = sum(throughput.slice(-FAILING_MINUTES));
  if (lately.failed >= FAILING_SESSIONS && lately.failed > lately.archived) {
    const all = lately.failed + lately.archived;
    return {
      level: 'trouble',
      text: `Most sessions fail: ${lately.failed} of ${all} in the last ${FAILING_MINUTES} minutes.`,
    };
  }
  const isOld = oldestQueuedAt !== undefined && now - Date.parse(oldestQueuedAt) > IDLE_MINUTES * 60_000;
  if (isOld && sum(throughput.slice(-IDLE_MINUTES)).archived === 0) {
    const some = count(queued, 'session is', 'sessions are');
    return {
      level: 'trouble',
      text: `Nothing was archived in the last ${IDLE_MINUTES} minutes, though ${some} queued.`,
    };
  }
  const last = sum(throughput.slice(-LATEST_MINUTES));
  const ended = [
    `${last.archived.toLocaleString('en')} archived`,
    ...(last.failed > 0 ? [`${last.failed.toLocaleString('en')} failed`] : []),
  ].join(' and ');
  if (last.archived + last.failed > 0) {
    const left = backlog.sessions > 0 ? `, ${backlog.sessions.toLocaleString('en')} to go` : '';
    return { level: 'ok', text: `All is well: ${ended} in the last ${LATEST_MINUTES} minutes${left}.` };
  }
  return backlog.sessions === 0
    ? { level: 'ok', text: 'All is well: there is nothing to do.' }
    : { level: 'ok', text: `All is well: ${count(backlog.sessions, 'session waits', 'sessions wait')}.` };
}

function isMedia({ dependency }: BreakerView): boolean {
  return dependency.startsWith('media:');
}

function complaint({ dependency, code }: BreakerView): string {
  if (code === 'ARCHIVE_DENIED') return 'The bucket denies writes';
  if (dependency === 'bucket') return 'The bucket does not answer';
  if (dependency === 'kore') return 'Kore does not answer';
  return `The media host ${dependency.replace(/^media:/, '')} does not answer`;
}

function sum(minutes: HealthFacts['throughput']): { archived: number; failed: number } {
  return {
    archived: minutes.reduce((total, { archived }) => total + archived, 0),
    failed: minutes.reduce((total, { failed }) => total + failed, 0),
  };
}

function count(number: number, one: string, many: string): string {
  return number === 1 ? `1 ${one}` : `${number.toLocaleString('en')} ${many}`;
}

/** `10:34 UTC`, with the date where it is another day. */
function clock(time: string, now: number): string {
  const isToday = new Date(now).toISOString().slice(0, 10) === time.slice(0, 10);
  return isToday ? `${time.slice(11, 16)} UTC` : `${time.slice(0, 10)} ${time.slice(11, 16)} UTC`;
}
