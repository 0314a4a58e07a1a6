/** The package as other programs import it; see the README, "From your own service". */

export { ConfigError, type Fault } from './config/faults.ts';
export type { ErrorCode } from './errors.ts';
export type { SessionChange, SessionEvent, SessionEventName } from './jobs/session-event.ts';
export type { RecordingView, SessionError, TranscriptState, TransferProgress } from './jobs/session-job.ts';
export type {
  ArchiverStats,
  EnqueueOutcome,
  EnqueueResult,
  RetryOutcome,
  SessionPage,
  StateCounts,
  Throughput,
} from './jobs/session-requests.ts';
export type { SessionState, SessionView } from './jobs/view.ts';
export type {
  Archiver,
  ArchiverLogger,
  ArchiverOptions,
  BotOptions,
  EnqueueOptions,
  EventsOptions,
  ListOptions,
} from './library/archiver.ts';
export { ArchiverError, type ArchiverErrorCode } from './library/archiver-error.ts';
export { createArchiver } from './library/create-archiver.ts';
