/** What codes and states of the API mean, for people. */

/** @import { HistoryEvent, SessionState, TranscriptState } from '../domain/views.ts' */
/** @import { IncompleteReason } from '../domain/completeness.ts' */

/** @type {readonly SessionState[]} */
export const STATES = ['queued', 'active', 'waiting', 'archived', 'failed'];

/** @type {Readonly<Record<SessionState, string>>} */
export const STATE_WORDS = {
  queued: 'in the queue, to be archived next',
  active: 'being archived now',
  waiting: 'checked again later: not ready at Kore, rate limited or after a failure that passes',
  archived: 'in the archive',
  failed: 'given up; a person must check it',
};

/** @type {Readonly<Record<TranscriptState, string>>} */
export const TRANSCRIPT_WORDS = {
  archived: 'The transcript is archived.',
  pending: 'Kore has no transcript yet. It is requested again.',
  absent: 'Kore has no transcript of this session.',
};

/** @type {Readonly<Record<string, string>>} */
export const INTEGRITY_WORDS = {
  verified: 'Whole: every byte came, by the length that was known.',
  unverified: 'Nothing says where it ends. Two downloads gave the same bytes.',
  suspect: 'Every byte came, and the audio disagrees with itself. The manifest says why.',
};

/** @type {Readonly<Record<string, string>>} */
const BREAKER_WORDS = {
  kore: "Kore's API",
  bucket: 'The archive',
  queue: 'The queue',
};

/**
 * A dependency by its name for people.
 *
 * @param {string} dependency
 */
export function dependencyName(dependency) {
  return dependency.startsWith('media:')
    ? `Media host ${dependency.slice('media:'.length)}`
    : (BREAKER_WORDS[dependency] ?? dependency);
}

/** @type {Readonly<Record<IncompleteReason, string>>} */
export const REASON_WORDS = {
  'listing-failed': 'Kore could not be asked to the end.',
  'listing-truncated': 'Kore has more sessions in one second than it lets anybody list.',
  'unreadable-entries': "Kore's listing has entries that name no session.",
  'day-not-over': 'The day is not over yet.',
  'late-sessions': 'The day ended a short time ago: calls that were still going on may be listed later.',
  purged: 'Kore has forgotten the day or its first hours.',
  'queue-unreachable': 'The queue could not be read.',
  'not-computed': 'This day has not been compared yet.',
  missing: 'Sessions with a voicemail are neither archived nor queued.',
  partial: 'Of some sessions only some recordings are saved.',
  waiting: 'Sessions are still in the queue.',
  failed: 'Sessions failed.',
  unknown: 'Some sessions may have a voicemail or not: this is not known.',
};

/**
 * What each event of a session's history is called.
 *
 * @type {Readonly<Record<HistoryEvent, string>>}
 */
export const EVENT_WORDS = {
  enqueued: 'Queued',
  attempt: 'Attempt',
  waiting: 'Waiting',
  transferred: 'Recording saved',
  archived: 'Archived',
  rewritten: 'Manifest rewritten',
  partial: 'Partly saved',
  failed: 'Failed',
  retried: 'Queued again',
  held: 'Held',
  released: 'Hold released',
};

/** @type {Readonly<Record<string, string>>} */
export const ROLE_WORDS = {
  read: 'see states and counts',
  listen: 'listen to recordings and read transcripts',
  enqueue: 'queue sessions',
  operate: 'retry, cancel, hold and pause, and run backfills',
  erase: 'erase sessions',
};
