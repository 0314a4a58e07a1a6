import { setTimeout as sleep } from 'node:timers/promises';
import {
  type EnqueueOutcome,
  type EnqueueResult,
  LARGE_LIST,
  secondsAtRateLimit,
} from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import type { SessionView } from '../domain/views.ts';
import type { Operations } from '../operations/operations.ts';
import { redact } from '../util/redact.ts';
import { type CliContext, CommandFailed } from './context.ts';
import { count, table, timeSpan } from './output.ts';

/** A session that ended otherwise than archived. */
export interface Failure extends SessionRef {
  readonly code: string;
  readonly message: string;
}

/** How sessions have ended so far. */
interface Ended {
  archived: number;
  /** Maybes that turned out to have no voicemail. */
  without: number;
  readonly failures: Failure[];
}

/** Sessions asked about at once. */
const VIEWS_AT_ONCE = 16;
/** Sessions asked about before the next pause. */
const VIEWS_PER_ROUND = 256;
/** While nothing happens, the pause between two rounds grows. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Waits until all sessions have ended, archived or failed. One whose recordings are archived has ended, even if
 * its transcript is still to come.
 *
 * @param isMaybe whether they were queued as a maybe: the queue forgets those of them that have no voicemail.
 * @param onChange is called with what has ended so far.
 * @throws the signal's reason when aborted.
 */
export async function waitForEnd(
  sessions: readonly SessionRef[],
  isMaybe: boolean,
  operations: Operations,
  signal: AbortSignal,
  onChange: (ended: Ended) => void,
): Promise<Ended> {
  const ended: Ended = { archived: 0, without: 0, failures: [] };
  const open = [...sessions];
  let pauseMs = FIRST_PAUSE_MS;
  while (open.length > 0) {
    signal.throwIfAborted();
    // Those that have not ended go to the back, so that a few that take long hide nothing.
    const round = open.splice(0, VIEWS_PER_ROUND);
    const unfinished = await noteEnded(round, isMaybe, operations, ended);
    open.push(...unfinished);
    onChange(ended);
    if (unfinished.length < round.length) pauseMs = FIRST_PAUSE_MS;
    else {
      await sleep(pauseMs, undefined, { signal });
      pauseMs = Math.min(pauseMs * 1.5, LONGEST_PAUSE_MS);
    }
  }
  return ended;
}

/** Notes how those of the sessions that have ended did so. @returns the others. */
async function noteEnded(
  sessions: SessionRef[],
  isMaybe: boolean,
  operations: Operations,
  ended: Ended,
): Promise<SessionRef[]> {
  const unfinished: SessionRef[] = [];
  for (let from = 0; from < sessions.length; from += VIEWS_AT_ONCE) {
    const some = sessions.slice(from, from + VIEWS_AT_ONCE);
    const views = await Promise.all(some.map((session) => operations.view(session)));
    for (const [index, session] of some.entries()) {
      const view = views[index];
      const isWithout = isMaybe && !view;
      const failure = isWithout ? undefined : failureOf(session, view);
      if (isWithout) ended.without += 1;
      else if (failure) ended.failures.push(failure);
      else if (view?.state === 'archived') ended.archived += 1;
      else unfinished.push(session);
    }
  }
  return unfinished;
}

function failureOf({ sessionId, botId }: SessionRef, view: SessionView | undefined): Failure | undefined {
  if (!view) return { sessionId, botId, code: 'SESSION_NOT_FOUND', message: 'it was removed from the queue' };
  if (view.state !== 'failed') return undefined;
  return {
    sessionId,
    botId,
    code: view.error?.code ?? 'INTERNAL',
    message: view.error?.message ?? 'no reason was kept',
  };
}

/** How many of the bad lines or failed sessions are named in text. */
const MAX_NAMED = 20;

const OUTCOMES = [
  'queued',
  'requeued',
  'already-queued',
  'already-archived',
] as const satisfies EnqueueOutcome[];

/**
 * What `enqueue` says: results as they come, and at the end what they add up to. As JSON it is one document,
 * `{results, counts, badLines, moved?, ended?, error?}`, written piece by piece.
 */
export class EnqueueReport {
  readonly #context: CliContext;
  readonly #asJson: boolean;
  readonly #eachResult: boolean;
  readonly #counts: Record<EnqueueOutcome, number> = {
    queued: 0,
    requeued: 0,
    'already-queued': 0,
    'already-archived': 0,
  };
  readonly #badLines = { count: 0, first: [] as { line: number; fault: string }[] };
  #hasBegun = false;
  #moved: { readonly priority: 'backfill'; readonly secondsAtRateLimit?: number } | undefined;
  #ended: Ended | undefined;

  constructor(context: CliContext, { asJson, eachResult }: { asJson: boolean; eachResult: boolean }) {
    this.#context = context;
    this.#asJson = asJson;
    this.#eachResult = eachResult;
  }

  /** How many sessions the command was given so far. */
  get sessions(): number {
    return OUTCOMES.reduce((sum, outcome) => sum + this.#counts[outcome], 0);
  }

  /** How many of them there is work to do for. */
  get underWay(): number {
    return this.sessions - this.#counts['already-archived'];
  }

  /** Notes the outcomes of some sessions. */
  async add(results: readonly EnqueueResult[]): Promise<void> {
    for (const { outcome } of results) this.#counts[outcome] += 1;
    if (this.#asJson) {
      await this.#writeJsonResults(results);
    } else if (this.#eachResult) {
      await this.#context.out.lines(
        table(
          results.map(({ sessionId, outcome, erased }) => [
            sessionId,
            erased ? 'was erased: not archived again' : words(outcome),
          ]),
        ),
      );
    }
  }

  /** Notes a line that names no session. */
  addBadLine(line: number, fault: string): void {
    this.#badLines.count += 1;
    if (this.#badLines.count > MAX_NAMED) return;
    this.#badLines.first.push({ line, fault });
    this.#context.say(`line ${line}: ${fault}\n`);
  }

  /** Records that there are too many sessions to go before live ones. */
  addMoved(): void {
    this.#moved = { priority: 'backfill' };
    this.#context.say(
      `More than ${LARGE_LIST.toLocaleString('en')} sessions: they go behind live ones (--live puts them among these).\n`,
    );
  }

  /** Says how long those take that went behind live ones, at the rate limit of the present moment. */
  async sayTime(operations: Pick<Operations, 'stats'>): Promise<void> {
    if (!this.#moved) return;
    const { rateLimit } = await operations.stats();
    if (!rateLimit) return;
    const seconds = secondsAtRateLimit(this.underWay, rateLimit);
    this.#moved = { ...this.#moved, secondsAtRateLimit: seconds };
    this.#context.say(
      `At the rate limit (${rateLimit.limit} calls in ${timeSpan(rateLimit.windowSeconds * 1000)}) they take about ${timeSpan(seconds * 1000)}.\n`,
    );
  }

  /** Notes how the sessions ended. */
  setEnded(ended: Ended): void {
    this.#ended = ended;
  }

  /** Writes the summary; `error` is what broke it off. */
  async end(error?: unknown): Promise<void> {
    if (this.#asJson) await this.#endJson(error);
    else if (this.sessions > 0) await this.#context.out.lines(this.#summary());
    else if (this.#badLines.count === 0 && error === undefined)
      this.#context.say('The list names no session.\n');
  }

  /** @throws CommandFailed when lines were bad or sessions failed. */
  throwFaults(): void {
    const faults: string[] = [];
    if (this.#badLines.count > 0) {
      faults.push(`${count(this.#badLines.count, 'line')} could not be used; all other sessions are queued`);
    }
    const failed = this.#ended?.failures.length ?? 0;
    if (failed > 0) faults.push(`${count(failed, 'session')} failed`);
    if (faults.length > 0) throw new CommandFailed(faults.join('; '));
  }

  #summary(): string[] {
    const parts = OUTCOMES.filter((outcome) => this.#counts[outcome] > 0).map(
      (outcome) => `${this.#counts[outcome].toLocaleString('en')} ${words(outcome)}`,
    );
    const lines = [`${count(this.sessions, 'session')}: ${parts.join(', ')}`];
    if (!this.#ended) return lines;
    const { archived, without, failures } = this.#ended;
    const noVoicemail = without > 0 ? `${without.toLocaleString('en')} without a voicemail, ` : '';
    lines.push(
      `ended: ${archived.toLocaleString('en')} archived, ${noVoicemail}${failures.length.toLocaleString('en')} failed`,
    );
    lines.push(
      ...table(
        failures.slice(0, MAX_NAMED).map(({ sessionId, code, message }) => [`  ${sessionId}`, code, message]),
      ),
    );
    if (failures.length > MAX_NAMED)
      lines.push(`  and ${failures.length - MAX_NAMED} more: see "status --state failed"`);
    return lines;
  }

  async #writeJsonResults(results: readonly EnqueueResult[]): Promise<void> {
    if (results.length === 0) return;
    const texts = results.map(({ sessionId, botId, outcome }) =>
      JSON.stringify({ sessionId, botId, outcome }),
    );
    await this.#context.out.write(`${this.#hasBegun ? ',' : '{"results":['}\n${texts.join(',\n')}`);
    this.#hasBegun = true;
  }

  async #endJson(error: unknown): Promise<void> {
    const rest = {
      counts: this.#counts,
      badLines: this.#badLines,
      ...(this.#moved && { moved: this.#moved }),
      ...(this.#ended && {
        ended: {
          archived: this.#ended.archived,
          withoutVoicemail: this.#ended.without,
          failed: this.#ended.failures.length,
          failures: this.#ended.failures,
        },
      }),
      ...(error !== undefined && { error: redact(error instanceof Error ? error.message : String(error)) }),
    };
    const begin = this.#hasBegun ? '\n' : '{"results":[';
    await this.#context.out.write(`${begin}],${JSON.stringify(rest).slice(1)}\n`);
  }
}

function words(outcome: EnqueueOutcome): string {
  return outcome.replace('-', ' ');
}
