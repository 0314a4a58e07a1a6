/** The shapes of the HTTP API: what comes in is validated with them, and what goes out is described by them. */

import { z } from 'zod';
import { ERROR_CODES } from '../errors.ts';
import { SESSION_STATES } from '../jobs/view.ts';
import { isValidId } from '../session.ts';

/** Sessions in one request at most. */
export const MAX_SESSIONS_PER_REQUEST = 10_000;
/** Sessions on one page at most. */
export const MAX_PAGE_SIZE = 1_000;

const Id = z.string().refine(isValidId, 'must be 1 to 128 of A-Z a-z 0-9 _ -');
const Code = z.enum(ERROR_CODES);
const Transcript = z.enum(['archived', 'pending', 'absent']);
const Count = z.int().nonnegative();
const Time = z.iso.datetime();

/** `{id}` in a path. */
export const SessionParams = z.strictObject({ id: Id });

/** The bot of the session in the path; without it the default bot. */
export const BotQuery = z.strictObject({ botId: Id.optional() });

/** `POST /v1/sessions` */
export const EnqueueBody = z.strictObject({
  sessionIds: z.array(Id).min(1).max(MAX_SESSIONS_PER_REQUEST),
  botId: Id.optional(),
  priority: z.enum(['live', 'backfill']).optional(),
  force: z.boolean().optional(),
});

/** What became of one session of `POST /v1/sessions`. */
export const EnqueueOutcome = z.enum(['queued', 'already-queued', 'already-archived', 'requeued']);

/** The answer of `POST /v1/sessions`: one result per id, in the order asked. */
export const EnqueueAnswer = z.object({
  results: z.array(z.object({ sessionId: Id, outcome: EnqueueOutcome })),
});

/** `GET /v1/sessions?state=&code=&limit=&cursor=` */
export const ListQuery = z.strictObject({
  state: z.enum(SESSION_STATES).optional(),
  code: Code.optional(),
  limit: z.coerce.number().int().min(1).max(MAX_PAGE_SIZE).optional(),
  cursor: z.string().max(64).optional(),
});

const Recording = z.object({
  key: z.string(),
  bytes: Count,
  sha256: z.string(),
  contentType: z.string(),
  durationSeconds: z.number().nonnegative().exactOptional(),
});

const SessionError = z.object({
  code: Code,
  message: z.string(),
  retryable: z.boolean(),
  at: Time,
});

/** A session's view. */
export const SessionView = z.object({
  sessionId: Id,
  botId: Id,
  state: z.enum(SESSION_STATES),
  transcript: Transcript.exactOptional(),
  attempts: Count,
  enqueuedAt: Time,
  startedAt: Time.exactOptional(),
  finishedAt: Time.exactOptional(),
  nextAttemptAt: Time.exactOptional(),
  progress: z.object({ recordings: Count, recordingsDone: Count, bytes: Count }).exactOptional(),
  error: SessionError.exactOptional(),
  recordings: z.array(Recording).readonly().exactOptional(),
  manifestKey: z.string().exactOptional(),
});

/** The answer of `GET /v1/sessions`. */
export const SessionPage = z.object({
  sessions: z.array(SessionView).readonly(),
  nextCursor: z.string().exactOptional(),
});

/** The answer of `POST /v1/sessions/{id}/retry`. */
export const RetryAnswer = z.object({ sessionId: Id, outcome: z.literal('requeued') });

/** `POST /v1/retries`: all failed sessions, or those with a code. */
export const RetryAllBody = z.strictObject({ code: Code.optional() });

/** The answer of `POST /v1/retries`. */
export const RetryAllAnswer = z.object({ requeued: Count });

/** The answer of `GET /v1/stats`. */
export const Stats = z.object({
  states: z.object({ queued: Count, active: Count, waiting: Count, archived: Count, failed: Count }),
  transcriptsPending: Count,
  oldestQueuedAt: Time.exactOptional(),
  /** The age of the session that has waited longest, in seconds. */
  oldestQueuedSeconds: z.number().nonnegative().exactOptional(),
});

/** The answer of `GET /livez` and `GET /readyz`. */
export const Health = z.object({ status: z.literal('ok') });

/** Codes of the API's own faults; faults of the archive keep the codes of `errors.ts`. */
export const API_CODES = [
  'INVALID_REQUEST',
  'UNAUTHORIZED',
  'FORBIDDEN',
  'NOT_FOUND',
  'NOT_FAILED',
  'PAYLOAD_TOO_LARGE',
  'UNSUPPORTED_MEDIA_TYPE',
  'NOT_READY',
  'QUEUE_UNAVAILABLE',
] as const;

/** An error, as RFC 9457 has it, with a stable code. */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.enum([...API_CODES, ...ERROR_CODES]),
});

export type Problem = z.infer<typeof Problem>;
export type ProblemCode = Problem['code'];
