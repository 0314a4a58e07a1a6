/** The package as other programs import it; see the README, "From your own service". */
export { ConfigError, type Fault } from './config/settings.ts';
export type { EraseResult, HoldResult, HoldView, ReleaseResult } from './domain/custody.ts';
export type { ErrorCode } from './domain/errors.ts';
export type {
  ArchiverStats,
  EnqueueOutcome,
  EnqueueResult,
  RetryOutcome,
  SessionPage,
  StateCounts,
  Throughput,
} from './domain/requests.ts';
export type {
  RecordingView,
  SessionChange,
  SessionError,
  SessionEvent,
  SessionEventName,
  SessionState,
  SessionView,
  TranscriptState,
  TransferProgress,
} from './domain/views.ts';
export type {
  Archiver,
  ArchiverLogger,
  ArchiverOptions,
  BotOptions,
  EnqueueOptions,
  EraseSessionOptions,
  EventsOptions,
  HoldOptions,
  ListOptions,
} from './library/archiver.ts';
export { createArchiver } from './library/create-archiver.ts';
export { ArchiverError, type ArchiverErrorCode } from './library/errors.ts';
