/** The dependencies of a worker, and its observers. */

import type { Rate, WorkConfig } from '../config/config.ts';
import type { ErrorCode } from '../domain/errors.ts';
import type { SessionOutcome } from '../domain/notifications.ts';
import type { TranscriptState } from '../domain/views.ts';
import type { Backend, QueueTelemetry } from '../jobs/backends/backend.ts';
import type { LockTimes } from '../jobs/consumer.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import type { Logger } from '../util/log.ts';
import type { ArchiveDeps } from './archive-session.ts';
import type { BreakerTimes } from './breaker.ts';

/** A session that has been dealt with: its manifest is there. */
export interface ArchivedWork {
  /** From taking the job to its end. */
  readonly seconds: number;
  /** The archive had it before, so nothing was transferred. */
  readonly alreadyArchived: boolean;
  /** Recordings its manifest names. */
  readonly recordings: number;
  /** Their sizes added up. */
  readonly bytes: number;
  readonly transcript: TranscriptState;
}

/** An attempt that failed, and what becomes of the job. */
export interface FailedWork {
  /** Whether the attempt was to archive a session, or to check for an awaited transcript. */
  readonly work: 'session' | 'transcript';
  readonly code: ErrorCode;
  /** `wait`: polled again, no attempt used up; `retry`: tried again; `fail`: given up for good. */
  readonly verdict: 'wait' | 'retry' | 'fail';
}

/** Observes the work, for metrics. */
export interface WorkerObserver {
  /** A session is archived. */
  onArchived?(session: ArchivedWork): void;
  /** An attempt failed; jobs given back at a shutdown are no failures. */
  onAttemptFailed?(failed: FailedWork): void;
  /** A session failed of which some recordings are archived, and others are missing. */
  onPartial?(): void;
  /** A session that was queued as a maybe has no voicemail: the queue forgets it. */
  onWithoutVoicemail?(): void;
  /** A transcript awaited has come, or has been given up. */
  onTranscriptSettled?(state: Exclude<TranscriptState, 'pending'>): void;
}

/** What a worker works with. */
export interface WorkerDeps
  extends Pick<ArchiveDeps, 'fetchVoicemail' | 'hasVoicemail' | 'store' | 'transfer' | 'now'> {
  readonly backend: Backend;
  readonly queue: SessionQueue;
  /** `QUEUE_NAME` */
  readonly queueName: string;
  /** The bot of the configuration (`KORE_BOT_ID`): if Kore refuses even that one, nothing can be archived. */
  readonly defaultBotId: string;
  /** `KORE_RATE_LIMIT`, for the worker's published state. */
  readonly rateLimit?: Rate | undefined;
  readonly work: WorkConfig;
  /** Observes the work, for metrics. */
  readonly observe?: WorkerObserver;
  /**
   * Called with the outcome of a session before its job ends. If it rejects, the job is worked on again. It is called
   * with the same outcome again after a crash, and after checks that found nothing new.
   */
  readonly onSettled?: ((outcome: SessionOutcome) => Promise<void>) | undefined;
  /** Follows sessions through the queue, for traces. */
  readonly telemetry?: QueueTelemetry | undefined;
  readonly log: Logger;
  readonly tuning?: WorkerTuning | undefined;
}

/** What tests set otherwise. */
export interface WorkerTuning {
  readonly locks?: LockTimes;
  readonly breakers?: Partial<BreakerTimes>;
}
