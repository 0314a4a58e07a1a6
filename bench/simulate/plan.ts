import type { Rate, WorkConfig } from '../../src/config/config.ts';

/** Who can be away for a while. `workers`: all of them, as in a deployment that went wrong. */
export const OUTAGE_KINDS = ['kore', 'media', 'bucket', 'workers'] as const;
export type OutageKind = (typeof OUTAGE_KINDS)[number];

/** A time in which somebody is unavailable; milliseconds from the beginning. */
export interface Outage {
  readonly kind: OutageKind;
  readonly from: number;
  readonly to: number;
}

/** A session that is to come. Times in milliseconds from the beginning. */
export interface PlannedSession {
  /** When its call began. */
  readonly beganAt: number;
  /** When it is queued. */
  readonly queuedAt: number;
  readonly callClass: 'live' | 'background';
  /** Nobody knows whether it has a voicemail. */
  readonly isMaybe: boolean;
  /** When Kore has its recording; infinite where there is none. */
  readonly recordingAt: number;
  /** When Kore has its transcript; infinite where none is made. */
  readonly transcriptAt: number;
  readonly bytes: number;
}

/** What a fleet is simulated with. Times in milliseconds. */
export interface FleetPlan {
  readonly sessions: readonly PlannedSession[];
  readonly outages: readonly Outage[];
  /** `KORE_RATE_LIMIT`, of one account. */
  readonly rate: Rate;
  readonly workers: number;
  readonly work: Pick<
    WorkConfig,
    | 'concurrency'
    | 'transferMemoryBytes'
    | 'sessionWaitMs'
    | 'recordingWaitMs'
    | 'transcriptWaitMs'
    | 'settleWaitMs'
    | 'pollDelayMs'
    | 'retryDelayMs'
    | 'retryWaitMs'
    | 'unauthorizedPauseMs'
  >;
  /** Memory that one transfer holds. */
  readonly bytesHeld: number;
  /** How long Kore takes to answer. */
  readonly answerMs: number;
  /** How fast a recording comes (bytes a second). */
  readonly bytesPerSecond: number;
  /** How long a `fileUrl` lives. */
  readonly urlLifetimeMs: number;
  /** How long Kore keeps a voicemail; infinite where that is not known. */
  readonly retentionMs: number;
  /** Later events are ignored. */
  readonly endsAt: number;
}

/** How many sessions there are in each state at a time. */
export interface Backlog {
  /** Milliseconds from the beginning. */
  readonly at: number;
  /** Queued or waiting, to be archived. */
  readonly open: number;
  readonly archived: number;
  /** Open, with less than a quarter of the retention left. */
  readonly atRisk: number;
}

/** A call to Kore that was sent. */
export interface SimulatedCall {
  readonly at: number;
  /** Position in the plan. */
  readonly session: number;
  readonly purpose: 'session' | 'check' | 'fresh-url' | 'probe';
}

/** What came of it. */
export interface FleetResult {
  /** Milliseconds from queueing to the manifest, of each archived session in the order of their archiving. */
  readonly waits: readonly number[];
  /** The same, from when the recording was there to be had. */
  readonly delays: readonly number[];
  readonly archived: number;
  readonly failed: number;
  readonly withoutVoicemail: number;
  /** Had a voicemail that Kore forgot before it was archived. */
  readonly lost: number;
  /** Open when the simulation ended. */
  readonly open: number;
  /** Were at risk at some time. */
  readonly wereAtRisk: number;
  /** Downloads whose URL had expired when they could begin: each costs one more call. */
  readonly expiredUrls: number;
  readonly calls: readonly SimulatedCall[];
  readonly backlog: readonly Backlog[];
}
