import type { SessionRef } from '../domain/session.ts';
import type { Operations } from '../operations/operations.ts';
import { redact } from '../util/redact.ts';
import {
  countFindings,
  FINDING_KINDS,
  type Finding,
  type FindingKind,
  NO_TOTALS,
  type Totals,
} from '../verification/findings.ts';
import type { DigestSpan } from '../verification/verify-signatures.ts';
import { count, type Output } from './output.ts';

/** Found only where signatures are checked. */
const OF_SIGNATURES: ReadonlySet<FindingKind> = new Set(['forged', 'unlisted']);
const KIND_WIDTH = Math.max(...FINDING_KINDS.map((kind) => kind.length));

/**
 * What `verify` says: findings as they come, and at the end what they add up to. As JSON it is one document,
 * `{findings, sessions, objects, bytes, suspect, counts, complete, digests?, repair?, error?}`, written piece by piece.
 */
export class VerifyReport {
  readonly #out: Output;
  readonly #asJson: boolean;
  #hasBegun = false;
  /** The totals so far. */
  totals: Totals = NO_TOTALS;
  /** Which digests were checked, where signatures were. */
  digests: DigestSpan | undefined;
  /** What was queued again. */
  repaired: RepairCounts | undefined;

  constructor(out: Output, asJson: boolean) {
    this.#out = out;
    this.#asJson = asJson;
  }

  /** Says what was found. */
  async add(finding: Finding): Promise<void> {
    if (!this.#asJson) {
      const { kind, key, what } = finding;
      await this.#out.lines([`${kind.padEnd(KIND_WIDTH)}  ${visible(key)}  ${visible(redact(what))}`]);
      return;
    }
    await this.#out.write(`${this.#hasBegun ? ',' : BEGIN}\n${redact(JSON.stringify(finding))}`);
    this.#hasBegun = true;
  }

  /** Writes the summary; `error` is what broke it off. */
  async end(error?: unknown): Promise<void> {
    if (this.#asJson) await this.#endJson(error);
    else await this.#out.lines(this.#summary(error !== undefined));
  }

  async #endJson(error: unknown): Promise<void> {
    const { sessions, objects, bytes, suspect, findings } = this.totals;
    const rest = {
      sessions,
      objects,
      bytes,
      suspect,
      counts: findings,
      complete: error === undefined,
      ...(this.digests && { digests: this.digests }),
      ...(this.repaired && { repair: this.repaired }),
      ...(error !== undefined && { error: redact(error instanceof Error ? error.message : String(error)) }),
    };
    await this.#out.write(`${this.#hasBegun ? '\n' : BEGIN}],${JSON.stringify(rest).slice(1)}\n`);
  }

  #summary(isInterrupted: boolean): string[] {
    const { sessions, objects, bytes, suspect, findings } = this.totals;
    const looked = `${count(sessions, 'session')}, ${count(objects, 'object')}, ${count(bytes, 'byte')}`;
    const nothing = sessions === 0 ? 'nothing to read' : 'nothing is wrong';
    const found =
      countFindings(this.totals) === 0
        ? nothing
        : FINDING_KINDS.filter((kind) => this.digests || !OF_SIGNATURES.has(kind))
            .map((kind) => `${findings[kind].toLocaleString('en')} ${kind}`)
            .join(', ');
    const lines = [`${isInterrupted ? 'until it was interrupted: ' : ''}${looked}: ${found}`];
    if (suspect > 0) {
      lines.push(
        `${count(suspect, 'recording')} archived as suspect, which is no fault of the archive: the manifests say why`,
      );
    }
    if (this.digests) {
      const { count: days, from, to } = this.digests;
      lines.push(`signatures: ${count(days, 'daily digest')}${days > 0 ? `, from ${from} to ${to}` : ''}`);
    }
    if (this.repaired) {
      const { queued, alreadyQueued } = this.repaired;
      lines.push(
        `${count(queued, 'session')} queued to be archived again, ${alreadyQueued.toLocaleString('en')} queued already`,
      );
    }
    return lines;
  }
}

const BEGIN = '{"findings":[';

/** Foreign objects may have any name, also one that would move the cursor about. */
function visible(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

/** The outcomes for the sessions that are broken. */
export interface RepairCounts {
  readonly queued: number;
  /** They were in the queue before: still to be archived, or under way. */
  readonly alreadyQueued: number;
}

/** Sessions queued at once: one round of bulk work. */
const BATCH_SIZE = 1_000;

/** The sessions that archiving again may fix, each once. */
export class BrokenSessions {
  readonly #sessions = new Map<string, SessionRef & { readonly force: boolean }>();

  add({ kind, repairable, sessionId, botId }: Finding): void {
    if (!repairable || sessionId === undefined || botId === undefined) return;
    const id = `${botId}.${sessionId}`;
    // What is saved of a session is sound: only the rest is to be tried again.
    const force = kind !== 'partial' || this.#sessions.get(id)?.force === true;
    this.#sessions.set(id, { sessionId, botId, force });
  }

  get size(): number {
    return this.#sessions.size;
  }

  /**
   * Queues them behind live sessions. Each takes the place of what is archived of it, but only once Kore has shown that
   * it still has it: otherwise all stays as it is. Of one that is saved in part, and sound so far, only the rest is
   * tried again.
   */
  async enqueue(operations: Pick<Operations, 'enqueue'>, signal: AbortSignal): Promise<RepairCounts> {
    const sessions = [...this.#sessions.values()];
    let alreadyQueued = 0;
    for (let at = 0; at < sessions.length; at += BATCH_SIZE) {
      signal.throwIfAborted();
      const batch = sessions.slice(at, at + BATCH_SIZE);
      const results = await operations.enqueue(
        batch.map((session) => ({ ...session, priority: 'backfill' as const })),
      );
      alreadyQueued += results.filter(({ outcome }) => outcome === 'already-queued').length;
    }
    return { queued: sessions.length - alreadyQueued, alreadyQueued };
  }
}
