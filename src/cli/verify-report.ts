import { countFindings, FINDING_KINDS, type Finding, NO_TOTALS, type Totals } from '../audit/finding.ts';
import { redact } from '../redact.ts';
import type { Output } from './output.ts';
import { count } from './table.ts';
import type { RepairCounts } from './verify-repair.ts';

const KIND_WIDTH = Math.max(...FINDING_KINDS.map((kind) => kind.length));

/**
 * What `verify` says: findings as they come, and at the end what they add up to. As JSON it is one document,
 * `{findings, sessions, objects, bytes, counts, complete, repair?, error?}`, written piece by piece.
 */
export class VerifyReport {
  readonly #out: Output;
  readonly #asJson: boolean;
  #hasBegun = false;
  /** What was looked at so far. */
  totals: Totals = NO_TOTALS;
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

  /** Says what it all came to; `error` is what broke it off. */
  async end(error?: unknown): Promise<void> {
    if (this.#asJson) await this.#endJson(error);
    else await this.#out.lines(this.#summary(error !== undefined));
  }

  async #endJson(error: unknown): Promise<void> {
    const { sessions, objects, bytes, findings } = this.totals;
    const rest = {
      sessions,
      objects,
      bytes,
      counts: findings,
      complete: error === undefined,
      ...(this.repaired && { repair: this.repaired }),
      ...(error !== undefined && { error: redact(error instanceof Error ? error.message : String(error)) }),
    };
    await this.#out.write(`${this.#hasBegun ? '\n' : BEGIN}],${JSON.stringify(rest).slice(1)}\n`);
  }

  #summary(isBrokenOff: boolean): string[] {
    const { sessions, objects, bytes, findings } = this.totals;
    const looked = `${count(sessions, 'session')}, ${count(objects, 'object')}, ${count(bytes, 'byte')}`;
    const nothing = sessions === 0 ? 'nothing to read' : 'nothing is wrong';
    const found =
      countFindings(this.totals) === 0
        ? nothing
        : FINDING_KINDS.map((kind) => `${findings[kind].toLocaleString('en')} ${kind}`).join(', ');
    const lines = [`${isBrokenOff ? 'until it was broken off: ' : ''}${looked}: ${found}`];
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
