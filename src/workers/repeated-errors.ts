import type { VoicemailError } from '../domain/errors.ts';
import type { TakenJob } from '../jobs/consumer.ts';
import type { Logger } from '../util/log.ts';
import { FAILURE_RULES, type Outcome } from './failure-policy.ts';

/** How often a fault that lasts is said again. */
const REPEAT_MS = 60_000;
/** Causes that are remembered: hosts come from outside, so there may be any number of them. */
const MAX_CAUSES = 1_000;

interface Cause {
  readonly loggedAt: number;
  /** Failures since then. */
  unlogged: number;
}

/**
 * Says loudly what a person has to put right: once for each cause, and once a minute while it lasts, with how often it
 * came meanwhile. Said for each of thousands of sessions it would bury everything else.
 */
export class RepeatedErrors {
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #causes = new Map<string, Cause>();

  /** @param now a steady clock (milliseconds). */
  constructor(log: Logger, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  /** @param whose distinguishes causes with the same code, for example by bot. */
  say(error: VoicemailError, about: Readonly<Record<string, unknown>>, message: string, whose = ''): void {
    const { code, hint, host = '' } = error;
    const key = JSON.stringify([code, host, whose]);
    const cause = this.#causes.get(key);
    const now = this.#now();
    if (cause && now - cause.loggedAt < REPEAT_MS) {
      cause.unlogged += 1;
      return;
    }
    if (this.#causes.size >= MAX_CAUSES) this.#causes.clear();
    this.#causes.set(key, { loggedAt: now, unlogged: 0 });
    const since = cause && cause.unlogged > 0 ? { alsoSinceTheLastLine: cause.unlogged } : {};
    this.#log.error({ ...about, code, ...(hint !== undefined && { hint }), err: error, ...since }, message);
  }
}

/** Logs what becomes of a session whose attempt failed; what a person has to put right, by `complaints`. */
export function reportFailure(
  log: Logger,
  complaints: RepeatedErrors,
  data: TakenJob['data'],
  { error, verdict, holdMs }: Outcome,
  isOneBotsFault: boolean,
): void {
  const about = { session: data.sessionId, bot: data.botId, code: error.code, err: error };
  const waiting = { session: data.sessionId, bot: data.botId, code: error.code };
  if (error.code === 'KORE_UNAUTHORIZED') {
    complaints.say(
      error,
      { ...waiting, pauseSeconds: Math.ceil((holdMs ?? 0) / 1000) },
      isOneBotsFault
        ? 'Kore refuses the credentials for this bot: NONE OF ITS SESSIONS IS BEING ARCHIVED until that is fixed; trying again after a pause'
        : 'Kore refuses the credentials: NO SESSION IS BEING ARCHIVED until that is fixed; trying again after a pause',
      isOneBotsFault ? data.botId : '',
    );
  } else if (verdict.kind === 'fail') {
    log.error(about, 'session failed');
  } else if (verdict.kind === 'retry') {
    log.warn(
      { ...about, pauseSeconds: Math.round(verdict.delayMs / 1000) },
      'attempt failed, will try again',
    );
  } else if (verdict.kind === 'wait' && FAILURE_RULES[error.code].dependency !== undefined) {
    const pauseSeconds = Math.round((verdict.until - Date.now()) / 1000);
    if (error.code === 'ARCHIVE_DENIED') {
      complaints.say(
        error,
        { ...waiting, pauseSeconds },
        'the archive refuses sessions: they wait until that is fixed',
      );
    } else {
      log.warn({ ...about, pauseSeconds }, 'session waits for an unavailable dependency');
    }
  } else {
    if (error.code === 'RECORDING_HOST_NOT_ALLOWED') {
      complaints.say(
        error,
        waiting,
        'recordings lie on a host that is not allowed: their sessions wait until it is',
      );
    }
    log.info(waiting, 'session waits');
  }
}
