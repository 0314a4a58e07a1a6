/** Whether sessions have a voicemail, by call details: one call answers for up to a hundred sessions. */

import { isVoicemailError } from '../../domain/errors.ts';
import type { SessionRef } from '../../domain/session.ts';
import { shareResult, unlessAborted } from '../../util/async.ts';
import type { Logger } from '../../util/log.ts';
import type { KoreClient } from '../client.ts';
import type { Listing } from './listing.ts';

/** Finds out whether sessions have a voicemail. */
export interface VoicemailFlags {
  /**
   * Whether a session has a voicemail; `undefined` where only a request for its voicemail can show it.
   *
   * @param session with the time at which it began (unix milliseconds).
   * @throws VoicemailError `KORE_RATE_LIMITED` when there is no call for that; the signal's reason when aborted.
   */
  of(session: SessionRef & { readonly beganAt: number }, signal: AbortSignal): Promise<boolean | undefined>;
}

/** What {@link createVoicemailFlags} works with. */
export interface VoicemailFlagsOptions {
  /** Call details, the only listing with the flag. */
  readonly listing: Listing;
  readonly listPage: KoreClient['listPage'];
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly log: Logger;
}

/** Sessions that began within so much time of each other are listed together. */
const SPAN_MS = 10 * 60 * 1000;
/** The id of a session and its row may disagree a little on when it began. */
const MARGIN_MS = 60 * 1000;
/** The number of sessions in a span from which one listing costs less than single requests. */
const SESSIONS_TO_LIST = 3;
/** How long a flag is reused, or which part of the session's age at the time of the listing. */
const FRESH_MS = 30 * 1000;
const FRESH_PART = 0.5;
/** The age of a session from which its flag in a listing is final. */
const FINAL_AFTER_MS = 60 * 60 * 1000;
/** How long a final flag, and the fact that there are no listings, is reused. */
const KEPT_MS = 10 * 60 * 1000;
/** How many spans are stored. */
const MAX_SPANS = 1_000;

/** The flags of the sessions of a span, and when that was asked (unix milliseconds). */
interface Flags {
  readonly bySession: ReadonlyMap<string, boolean>;
  readonly listedAt: number;
}

interface Span {
  readonly seen: Set<string>;
  /** The last listing. */
  flags: Flags | undefined;
  /** Lists the span, once for all who ask at the same time. */
  readonly list: () => Promise<Flags>;
}

/**
 * Flags by call details. Where these can't be read (the scope `SmartAssist Analytics` is missing, for example) or have
 * no flags, no session waits for them: the voicemail itself is requested.
 */
export function createVoicemailFlags(options: VoicemailFlagsOptions): VoicemailFlags {
  const { now, log } = options;
  const spans = new Map<string, Span>();
  let uselessUntil = 0;

  const spanOf = (botId: string, beganAt: number): Span => {
    const from = Math.floor(beganAt / SPAN_MS) * SPAN_MS;
    const key = `${botId} ${from}`;
    const known = spans.get(key);
    if (known) return known;
    // One who no longer waits for it is no reason to break it off for the others.
    const list = shareResult(() => listSpan(options, botId, from, new AbortController().signal), 0);
    const span: Span = { seen: new Set(), flags: undefined, list };
    spans.set(key, span);
    const [oldest = key] = spans.keys();
    if (spans.size > MAX_SPANS) spans.delete(oldest);
    return span;
  };

  return {
    async of({ botId, sessionId, beganAt }, signal) {
      if (now() < uselessUntil) return undefined;
      const span = spanOf(botId, beganAt);
      if (span.flags && isBelieved(span.flags, beganAt, now())) return span.flags.bySession.get(sessionId);
      span.seen.add(sessionId);
      if (span.seen.size < SESSIONS_TO_LIST) return undefined;
      try {
        span.flags = await unlessAborted(span.list(), signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!isVoicemailError(error) || error.code === 'KORE_RATE_LIMITED') throw error;
        uselessUntil = now() + KEPT_MS;
        const message = 'call details do not say which sessions have a voicemail: each is requested';
        log.info({ code: error.code, reason: error.message }, message);
        return undefined;
      }
      if (span.flags.bySession.size === 0) uselessUntil = now() + KEPT_MS;
      return span.flags.bySession.get(sessionId);
    },
  };
}

function isBelieved({ listedAt }: Flags, beganAt: number, now: number): boolean {
  const age = listedAt - beganAt;
  return now - listedAt < (age > FINAL_AFTER_MS ? KEPT_MS : Math.max(FRESH_MS, age * FRESH_PART));
}

async function listSpan(
  { listing, listPage, now }: VoicemailFlagsOptions,
  botId: string,
  from: number,
  signal: AbortSignal,
): Promise<Flags> {
  const listedAt = now();
  const bySession = new Map<string, boolean>();
  const window = { from: new Date(from - MARGIN_MS), to: new Date(from + SPAN_MS + MARGIN_MS) };
  let rowsBefore = 0;
  for (let page = 0; page < listing.limits.maxPages; page += 1) {
    const { sessions, rows, isLast } = await listPage(
      listing,
      { botId, ...window, page, rowsBefore },
      signal,
    );
    rowsBefore += rows;
    for (const { sessionId, hasVoicemail } of sessions) {
      // Of two rows of one session, one with a voicemail counts.
      if (hasVoicemail !== undefined && bySession.get(sessionId) !== true) {
        bySession.set(sessionId, hasVoicemail);
      }
    }
    if (isLast) break;
  }
  return { bySession, listedAt };
}
