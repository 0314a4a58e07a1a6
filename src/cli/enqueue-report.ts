import type { EnqueueOutcome, EnqueueResult } from '../jobs/session-requests.ts';
import { redact } from '../redact.ts';
import type { CliContext } from './context.ts';
import { CommandFailed } from './exit.ts';
import { count, table } from './table.ts';
import type { Ended } from './wait.ts';

/** Of many bad lines or failed sessions, so many are named in text. */
const MAX_NAMED = 20;

const OUTCOMES = [
  'queued',
  'requeued',
  'already-queued',
  'already-archived',
] as const satisfies EnqueueOutcome[];

/**
 * What `enqueue` says: results as they come, and at the end what they add up to. As JSON it is one document,
 * `{results, counts, badLines, ended?, error?}`, written piece by piece.
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

  /** Notes what became of some sessions. */
  async add(results: readonly EnqueueResult[]): Promise<void> {
    for (const { outcome } of results) this.#counts[outcome] += 1;
    if (this.#asJson) {
      await this.#writeJsonResults(results);
    } else if (this.#eachResult) {
      await this.#context.out.lines(
        table(results.map(({ sessionId, outcome }) => [sessionId, words(outcome)])),
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

  /** Notes how the sessions ended. */
  setEnded(ended: Ended): void {
    this.#ended = ended;
  }

  /** Says what it all came to; `error` is what broke it off. */
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
    const { archived, failures } = this.#ended;
    lines.push(
      `ended: ${archived.toLocaleString('en')} archived, ${failures.length.toLocaleString('en')} failed`,
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
      ...(this.#ended && {
        ended: {
          archived: this.#ended.archived,
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
