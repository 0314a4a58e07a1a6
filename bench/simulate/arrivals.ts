import type { PlannedSession } from './plan.ts';

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
/** Recordings are there within 10 minutes, as Kore's documentation has it. */
const LATEST_RECORDING_MS = 10 * 60 * 1000;
/** Sizes of one mean: most are short. */
const SMALLEST_SHARE = 0.1;

/** How sessions spread over a day: evenly, or as calls do (UTC hours, the busiest at 10). */
export const PROFILES = {
  flat: Array.from({ length: 24 }, () => 1),
  office: [0, 0, 0, 0, 0, 0, 1, 3, 7, 10, 11, 10, 8, 8, 10, 10, 8, 5, 3, 2, 2, 1, 1, 0],
} as const satisfies Record<string, readonly number[]>;
export type Profile = keyof typeof PROFILES;

/** What sessions come. Times in milliseconds, shares from 0 to 1. */
export interface ArrivalOptions {
  readonly hours: number;
  readonly perDay: number;
  readonly profile: Profile;
  /** From the beginning of a call to its notification. */
  readonly callMs: number;
  /** Of all: their recordings are not there yet when they are queued. */
  readonly lateRecordings: number;
  readonly recordingDelayMs: number;
  /** Of all: their transcripts come later; and of all: none is made. */
  readonly lateTranscripts: number;
  readonly transcriptDelayMs: number;
  readonly withoutTranscript: number;
  /** Of all: queued without knowing whether they have a voicemail, and of these: have one. */
  readonly maybe: number;
  readonly maybeWithVoicemail: number;
  /** Queued at the beginning behind live ones, from the days before. */
  readonly backfill: number;
  readonly backfillHours: number;
  readonly bytes: number;
}

/** Makes the sessions of a simulation, in the order in which they are queued. */
export function planSessions(options: ArrivalOptions, random: () => number): PlannedSession[] {
  const sessions: PlannedSession[] = [];
  // A backfill queues the oldest first.
  const began = Array.from(
    { length: options.backfill },
    () => -random() * options.backfillHours * HOUR_MS - options.callMs,
  ).sort((a, b) => a - b);
  for (const beganAt of began) {
    sessions.push(planOne(options, { beganAt, queuedAt: 0, callClass: 'background' }, random));
  }
  const weights: readonly number[] = PROFILES[options.profile];
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  // Thinning: as many as in the busiest hour, of which the others keep a part.
  const busiest = Math.max(...weights);
  const meanGapMs = (DAY_MS * total) / (options.perDay * busiest * weights.length);
  for (let at = gap(meanGapMs, random); at < options.hours * HOUR_MS; at += gap(meanGapMs, random)) {
    const hour = Math.floor(at / HOUR_MS) % weights.length;
    if (random() * busiest >= (weights[hour] ?? 0)) continue;
    sessions.push(
      planOne(options, { beganAt: at - options.callMs, queuedAt: at, callClass: 'live' }, random),
    );
  }
  return sessions;
}

function planOne(
  options: ArrivalOptions,
  session: Pick<PlannedSession, 'beganAt' | 'queuedAt' | 'callClass'>,
  random: () => number,
): PlannedSession {
  const isMaybe = random() < options.maybe;
  const overAt = session.beganAt + options.callMs;
  const hasRecording = !isMaybe || random() < options.maybeWithVoicemail;
  const isLate = random() < options.lateRecordings;
  const delay = isLate ? Math.min(gap(options.recordingDelayMs, random), LATEST_RECORDING_MS) : 0;
  const recordingAt = hasRecording ? overAt + delay : Number.POSITIVE_INFINITY;
  const kind = random();
  const isMade = kind >= options.withoutTranscript;
  const isTranscriptLate = isMade && kind < options.withoutTranscript + options.lateTranscripts;
  const transcriptDelay = isTranscriptLate ? gap(options.transcriptDelayMs, random) : 0;
  return {
    ...session,
    isMaybe,
    recordingAt,
    transcriptAt: isMade ? recordingAt + transcriptDelay : Number.POSITIVE_INFINITY,
    bytes: options.bytes * (SMALLEST_SHARE + gap(1 - SMALLEST_SHARE, random)),
  };
}

/** Exponentially distributed. */
function gap(mean: number, random: () => number): number {
  return -Math.log(1 - random()) * mean;
}
