import type { IncomingHttpHeaders } from 'node:http';
import type { QueueTelemetry } from '../../jobs/backends/backend.ts';
import type { NotificationObserver } from '../../notifications/worker.ts';
import type { TransferObserver } from '../../transfer/transfer.ts';
import type { ArchiveDeps } from '../../workers/archive-session.ts';
import type { WorkerObserver } from '../../workers/worker-deps.ts';
import type { KoreMetrics } from '../metrics/work.ts';

/**
 * Traces as the rest of the project knows them. Nothing of OpenTelemetry is loaded for this: `start.ts` makes it, and
 * is loaded only where traces are wanted.
 */
export interface Tracing {
  /** For the queue: carries the trace from the process that queues a session to its worker. */
  readonly queue: QueueTelemetry;
  /** For the HTTP API. */
  readonly requests: RequestTracer;
  /** The same parts, each of which traces its work. */
  traceParts(parts: TracedParts): TracedParts;
  /** Observers that trace the work, and call the given ones. */
  observers(others: WorkObservers | undefined): WorkObservers;
  /** Sends what is left, for a moment at most, and ends. Never rejects. */
  close(): Promise<void>;
}

/** The parts whose work shows in traces. */
export type TracedParts = Pick<ArchiveDeps, 'fetchVoicemail' | 'transfer' | 'store'>;

/** Observers of the work. */
export interface WorkObservers {
  readonly worker: WorkerObserver;
  readonly transfer: TransferObserver;
  readonly kore: KoreMetrics;
  readonly notifications?: NotificationObserver;
}

/** Follows HTTP requests. */
export interface RequestTracer {
  /** A request came; it belongs to the trace that its header `traceparent` names, if it does. */
  start(request: TracedRequest): RequestSpan;
}

/** A request as traces show it. */
export interface TracedRequest {
  readonly method: string;
  /** The route's pattern. */
  readonly route: string;
  readonly headers: IncomingHttpHeaders;
}

/** One request that is being followed. */
export interface RequestSpan {
  /** Calls `work`; whatever it starts belongs to the request. */
  run(work: () => void): void;
  /** It was answered, or its sender disconnected before (`status` is undefined). `code` is the problem's, if any. */
  end(status: number | undefined, code: string | undefined): void;
}
