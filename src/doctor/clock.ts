/** This machine's clock, compared with those of the servers that the checks talk to anyway. */

import { type CheckResult, failed, ok, skipped, warning } from './check.ts';

/** `Date` headers have whole seconds, and an answer may have taken a while to arrive. */
const TOLERATED_MS = 60_000;
/** The life of a token for Kore; S3 is content with 15 minutes. */
const HARMFUL_MS = 5 * 60_000;

const NAME = 'clock';
const FIX = "set this machine's clock, and keep it set (NTP, chrony)";

/** Collects what the clocks of others say. */
export class ClockComparison {
  readonly #now: () => number;
  readonly #offsets = new Map<string, number>();

  /** @param now this machine's clock, in milliseconds since 1970. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /**
   * Takes the `Date` header of an answer that has just come.
   * @param whose name of that clock, for people: `Kore`.
   */
  observe(whose: string, date: string | undefined): void {
    const theirs = Date.parse(date ?? '');
    if (!Number.isNaN(theirs)) this.#offsets.set(whose, this.#now() - theirs);
  }

  /** How far this machine's clock is from another one, in words; `undefined` where that is no matter or not known. */
  trouble(whose: string): string | undefined {
    const offset = this.#offsets.get(whose);
    return offset === undefined || Math.abs(offset) <= TOLERATED_MS ? undefined : say(whose, offset);
  }

  /** The result, once everything else has been asked. */
  result(): CheckResult {
    if (this.#offsets.size === 0) return skipped(NAME, 'no server was reached that sends its time');
    const troubles = [...this.#offsets].filter(([, offset]) => Math.abs(offset) > TOLERATED_MS);
    if (troubles.length === 0)
      return ok(NAME, `agrees with that of ${[...this.#offsets.keys()].join(' and ')}`);
    const message = troubles.map(([whose, offset]) => say(whose, offset)).join('; ');
    const isHarmful = troubles.some(([, offset]) => Math.abs(offset) >= HARMFUL_MS);
    return isHarmful ? failed(NAME, message, FIX) : warning(NAME, message, FIX);
  }
}

function say(whose: string, offsetMs: number): string {
  const seconds = Math.round(Math.abs(offsetMs) / 1000);
  const much = seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  return `this machine's clock is ${much} ${offsetMs > 0 ? 'ahead of' : 'behind'} that of ${whose}`;
}
