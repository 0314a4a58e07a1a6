/** The shapes of the HTTP API: what comes in is validated with them, and what goes out is described by them. */

import type { Readable } from 'node:stream';
import { z } from 'zod';
import { ERROR_CODES } from '../../domain/errors.ts';
import { HISTORY_EVENTS, SESSION_STATES } from '../../domain/views.ts';
import { BotId, Code, SessionId } from '../../operations/input.ts';
import { BreakerState } from './stats.ts';

const TranscriptStateSchema = z.enum(['archived', 'pending', 'absent']);
const Count = z.int().nonnegative();
const Time = z.iso.datetime();

/** The bot of the session in the path; without it the default bot. */
export const BotQuery = z.strictObject({
  botId: BotId.optional().describe('the bot of the session; without it the default bot (KORE_BOT_ID)'),
});

/** The outcome for one session of `POST /v1/sessions`. */
export const EnqueueOutcomeSchema = z.enum(['queued', 'already-queued', 'already-archived', 'requeued']);

/** Of a long list without a priority. */
export const MovedBehindLive = z
  .object({
    priority: z.literal('backfill'),
    reason: z.string(),
    secondsAtRateLimit: Count.exactOptional().describe('how long they take, if each takes one call'),
  })
  .describe('of more than 1,000 sessions without a priority: they go behind live ones');

/** The answer of `POST /v1/sessions`: one result per id, in the order asked. */
export const EnqueueAnswer = z
  .object({
    results: z.array(
      z.object({
        sessionId: SessionId,
        outcome: EnqueueOutcomeSchema,
        erased: z
          .literal(true)
          .exactOptional()
          .describe('it was erased, and is never archived again, by force neither'),
      }),
    ),
    moved: MovedBehindLive.exactOptional(),
  })
  .meta({
    id: 'EnqueueAnswer',
    description: 'the outcome for each session, in the order asked; the queue holds them',
    examples: [{ results: [{ sessionId: '67ab573f3685d1ba99541234', outcome: 'queued' }] }],
  });

const Recording = z
  .object({
    key: z.string().describe('the full key in the bucket, or the path below the directory'),
    bytes: Count,
    sha256: z.string().describe('in hex'),
    contentType: z.string(),
    durationSeconds: z.number().nonnegative().exactOptional(),
    integrity: z
      .enum(['verified', 'unverified', 'suspect'])
      .exactOptional()
      .describe('how sure one can be that it is whole and sound; the manifest says why'),
  })
  .meta({ id: 'Recording' });

const SessionError = z
  .object({
    code: Code,
    message: z.string(),
    hint: z.string().exactOptional().describe('what to do about it'),
    retryable: z.boolean().describe('whether it is tried again by itself'),
    at: Time,
  })
  .meta({ id: 'SessionError' });

const Missing = z
  .object({
    fileName: z.string(),
    code: z.string().describe('why it could not be saved'),
    message: z.string(),
    at: Time,
  })
  .meta({ id: 'MissingRecording' });

const History = z
  .object({
    at: Time,
    event: z.enum(HISTORY_EVENTS),
    by: z
      .string()
      .exactOptional()
      .describe("who did it: the name of a token, `webhook`, a backfill's id, or a command's user"),
    code: Code.exactOptional(),
    message: z.string().exactOptional(),
    detail: z.string().exactOptional().describe('a revision, a key and its size, until when it waits'),
  })
  .meta({ id: 'SessionEvent' });

const SESSION = '67ab573f3685d1ba99541234';
const ARCHIVED_SESSION = {
  sessionId: SESSION,
  botId: 'st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e',
  state: 'archived',
  transcript: 'archived',
  attempts: 1,
  enqueuedAt: '2026-01-05T09:30:00.000Z',
  startedAt: '2026-01-05T09:30:00.120Z',
  finishedAt: '2026-01-05T09:30:01.480Z',
  recordings: [
    {
      key: 'voicemail/bot_id=st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e/date=2025-02-11/session_id=67ab573f3685d1ba99541234/voicemail.wav',
      bytes: 480_044,
      sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
      contentType: 'audio/wav',
      durationSeconds: 30,
    },
  ],
  manifestKey:
    'voicemail/bot_id=st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e/date=2025-02-11/session_id=67ab573f3685d1ba99541234/manifest.json',
} as const;
const FAILED_SESSION = {
  sessionId: '67ab573f3685d1ba99545678',
  botId: 'st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e',
  state: 'failed',
  attempts: 1,
  enqueuedAt: '2026-01-05T09:30:00.000Z',
  startedAt: '2026-01-05T09:30:00.120Z',
  finishedAt: '2026-01-05T09:30:00.350Z',
  error: {
    code: 'SESSION_NOT_FOUND',
    message: 'Kore knows no such session',
    retryable: false,
    at: '2026-01-05T09:30:00.350Z',
  },
} as const;

/** A session's view. */
export const SessionViewSchema = z
  .object({
    sessionId: SessionId,
    botId: BotId,
    state: z.enum(SESSION_STATES),
    transcript: TranscriptStateSchema.exactOptional(),
    attempts: Count,
    enqueuedAt: Time,
    startedAt: Time.exactOptional(),
    finishedAt: Time.exactOptional(),
    nextAttemptAt: Time.exactOptional(),
    progress: z.object({ recordings: Count, recordingsDone: Count, bytes: Count }).exactOptional(),
    error: SessionError.exactOptional(),
    recordings: z
      .array(Recording)
      .readonly()
      .exactOptional()
      .describe('what is archived; of a failed session, what was saved of it'),
    missing: z
      .array(Missing)
      .readonly()
      .exactOptional()
      .describe('of a failed session of which some recordings were saved: the others'),
    partial: z
      .literal(true)
      .exactOptional()
      .describe('of a failed session: some of its recordings are archived'),
    manifestKey: z.string().exactOptional(),
    history: z
      .array(History)
      .readonly()
      .exactOptional()
      .describe('the newest 50 events, the oldest first; only in the view of one session'),
  })
  .meta({ id: 'SessionView', examples: [ARCHIVED_SESSION, FAILED_SESSION] });

/** The answer of `GET /v1/sessions`. */
export const SessionPageSchema = z
  .object({
    sessions: z.array(SessionViewSchema).readonly(),
    nextCursor: z.string().exactOptional().describe('left out on the last page'),
  })
  .meta({
    id: 'SessionPage',
    examples: [
      {
        sessions: [FAILED_SESSION],
        nextCursor: '1767605400000.st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e.67ab573f3685d1ba99545678',
      },
    ],
  });

/** The answer of `POST /v1/sessions/{id}/retry`. */
export const RetryAnswer = z
  .object({ sessionId: SessionId, outcome: z.literal('requeued') })
  .meta({ id: 'RetryAnswer', examples: [{ sessionId: SESSION, outcome: 'requeued' }] });

/** `POST /v1/retries`: all failed sessions, or those with a code. */
export const RetryAllBody = z.strictObject({
  code: Code.optional().describe('only sessions that failed with this code'),
});

/** The answer of `POST /v1/retries`. */
export const RetryAllAnswer = z
  .object({ requeued: Count })
  .meta({ id: 'RetryAllAnswer', examples: [{ requeued: 3 }] });

/** `POST /v1/sessions/retry`: failed sessions again; which ones has to be said. */
export const RetrySessionsBody = z
  .strictObject({
    code: Code.optional().describe('only sessions that failed with this code'),
    all: z.literal(true).optional().describe('all failed sessions'),
  })
  .refine(({ code, all }) => code !== undefined || all, { message: 'give a code, or "all": true' })
  .meta({ id: 'RetrySessionsRequest', examples: [{ code: 'KORE_UNAVAILABLE' }] });

/** The answer of `POST /v1/sessions/retry`. */
export const RetrySessionsAnswer = z
  .object({ retried: Count.describe('sessions that run again') })
  .meta({ id: 'RetrySessionsAnswer', examples: [{ retried: 3 }] });

/** The answer of `DELETE /v1/sessions/{id}`. */
export const CancelAnswer = z
  .object({ sessionId: SessionId, outcome: z.literal('cancelled') })
  .meta({ id: 'CancelAnswer', examples: [{ sessionId: SESSION, outcome: 'cancelled' }] });

/** `POST /v1/cancellations`: all queued and waiting sessions, or some of them. */
export const CancelAllBody = z.strictObject({
  code: Code.optional().describe('only sessions whose last error has this code'),
  backfills: z.boolean().optional().describe('only sessions that wait behind live ones'),
  dryRun: z.boolean().optional().describe('only count them'),
});

/** `POST /v1/sessions/cancel`: queued and waiting sessions; which ones has to be said. */
export const CancelSessionsBody = z
  .strictObject({
    ...CancelAllBody.shape,
    all: z.literal(true).optional().describe('all queued and waiting sessions'),
  })
  .refine(({ code, backfills, all }) => code !== undefined || backfills || all, {
    message: 'give a code, "backfills": true or "all": true',
  })
  .meta({ id: 'CancelSessionsRequest', examples: [{ backfills: true, dryRun: true }] });

/** The answer of `POST /v1/cancellations` and `POST /v1/sessions/cancel`. */
export const CancelAllAnswer = z
  .object({
    cancelled: Count.describe('sessions taken out of the queue, or in a dry run those that would be'),
  })
  .meta({ id: 'CancelAllAnswer', examples: [{ cancelled: 3 }] });

/** The answer of `PUT` and `DELETE /v1/pause`. */
export const PauseAnswer = z
  .object({ paused: z.boolean().describe('whether no session is taken until somebody resumes the queue') })
  .meta({ id: 'PauseAnswer', examples: [{ paused: true }] });

/** `{id}` and `{n}` in a path. */
export const RecordingParams = z.strictObject({
  id: SessionId,
  n: z.coerce
    .number()
    .int()
    .min(0)
    .max(1_000_000)
    .describe("which of the session's recordings, counted from 0 in the order of its view"),
});

/** The bytes of an archived object, sent as a stream. */
export const ObjectBytes = z
  .string()
  .describe('the archived object, or the part in Range') as unknown as z.ZodType<string, Readable>;

/** A transcript or a manifest as a whole, sent as a stream: see docs/archive.md for what is in it. */
export const ObjectDocument = z
  .record(z.string(), z.unknown())
  .describe('the archived document') as unknown as z.ZodType<Readonly<Record<string, unknown>>, Readable>;

/** `GET /v1/events?lastEventId=` */
export const EventsQuery = z.strictObject({
  lastEventId: z
    .string()
    .max(64)
    .optional()
    .describe('go on after this event; for clients that cannot send the header Last-Event-ID'),
});

/** The answer of `GET /v1/events`: a text that goes on, so it is sent as a stream. */
export const EventStream = z
  .string()
  .describe('server-sent events, their data being the parts of a view that are known')
  .meta({
    examples: [
      'id: 1760000000000-0\nevent: queued\ndata: {"sessionId":"67ab573f3685d1ba99541234","botId":"st-1","state":"queued"}\n\n',
    ],
  }) as unknown as z.ZodType<string, Readable>;

/** The answer of `GET /livez` and `GET /readyz`. */
export const ProbeAnswer = z
  .object({
    status: z.literal('ok'),
    dependencies: z
      .array(z.object({ dependency: z.string(), state: BreakerState }))
      .exactOptional()
      .describe(
        'those that the worker of this process depends on; those that are unavailable are waited for',
      ),
  })
  .meta({ id: 'Health' });

/** Codes of the API's own faults; faults of the archive keep the codes of `errors.ts`. */
const API_CODES = [
  'INVALID_REQUEST',
  'UNAUTHORIZED',
  'FORBIDDEN',
  'NOT_FOUND',
  'METHOD_NOT_ALLOWED',
  'NOT_FAILED',
  'NOT_WAITING',
  'ERASED',
  'HELD',
  'LOCKED',
  'NOT_HELD',
  'REQUEST_TIMEOUT',
  'PAYLOAD_TOO_LARGE',
  'URI_TOO_LONG',
  'UNSUPPORTED_MEDIA_TYPE',
  'HEADERS_TOO_LARGE',
  'RANGE_NOT_SATISFIABLE',
  'NOT_ALIVE',
  'NOT_READY',
  'KEYS_UNAVAILABLE',
  'QUEUE_UNAVAILABLE',
  'TOO_MANY_CONNECTIONS',
] as const;

/** An error, as RFC 9457 has it, with a stable code. */
export const Problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string().describe('what is wrong, for people'),
    hint: z.string().exactOptional().describe('what to do about it'),
    code: z.enum([...API_CODES, ...ERROR_CODES]).describe('stable, for programs'),
  })
  .meta({
    id: 'Problem',
    description: 'an error, as RFC 9457 has it',
    examples: [
      {
        type: 'about:blank',
        title: 'Service Unavailable',
        status: 503,
        detail: 'the queue cannot be reached; try again in a moment',
        code: 'QUEUE_UNAVAILABLE',
      },
    ],
  });

export type Problem = z.infer<typeof Problem>;
export type ProblemCode = Problem['code'];
