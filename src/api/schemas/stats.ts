/** The schemas of the overview: counts and health, who is asking, what error codes mean. */

import { z } from 'zod';
import { ROLES } from '../../domain/requests.ts';
import { Code } from '../../operations/input.ts';

const Count = z.int().nonnegative();
const Time = z.iso.datetime();

/** Whether the dependency of a breaker is available. */
export const BreakerState = z.enum(['closed', 'open']);

/** The state of a dependency of a worker. */
const BreakerSchema = z.object({
  dependency: z.string().describe('`kore`, `bucket`, `queue`, or `media:` and a host'),
  state: BreakerState.describe('open: it is unavailable, and nothing that needs it is begun'),
  since: Time.exactOptional(),
  code: Code.exactOptional(),
  reason: z.string().exactOptional(),
});

const Worker = z.object({
  id: z.string().describe('created again at each start'),
  host: z.string(),
  pid: Count,
  version: z.string(),
  startedAt: Time,
  seenAt: Time.describe('a worker sends a heartbeat every 10 s, and counts as gone after 60 s'),
  concurrency: Count.describe('sessions that it works on at most'),
  active: Count.describe('sessions that it works on'),
});

/** The answer of `GET /v1/stats`. */
export const Stats = z
  .object({
    health: z
      .object({
        level: z
          .enum(['ok', 'waiting', 'trouble'])
          .describe('waiting: it goes on by itself, or by "resume"; trouble: a person must act'),
        text: z.string().describe('one sentence for people'),
      })
      .describe('the overall state'),
    states: z.object({ queued: Count, active: Count, waiting: Count, archived: Count, failed: Count }),
    paused: z.boolean().describe('whether no session is taken until somebody resumes the queue'),
    pausedSince: Time.exactOptional(),
    transcriptsPending: Count.describe(
      'archived sessions that are checked again: for a transcript awaited, or once after SETTLE_WAIT',
    ),
    oldestQueuedAt: Time.exactOptional(),
    /** The age of the session that has waited longest, in seconds. */
    oldestQueuedSeconds: z.number().nonnegative().exactOptional(),
    backlog: z.object({
      sessions: Count.describe('queued, in work, or waiting'),
      secondsUntilDone: Count.exactOptional().describe(
        'at the pace of the last minutes, or at the rate limit; left out while nothing gets on',
      ),
    }),
    throughput: z
      .array(z.object({ minute: Time.describe('when it began'), archived: Count, failed: Count }))
      .readonly()
      .describe('the last hour by minute, the oldest first; the last one is not over yet'),
    failuresByCode: z
      .partialRecord(Code, Count)
      .describe('the failed sessions by error code; only the latest 10,000 are counted'),
    rateLimit: z
      .object({
        limit: Count.describe('calls to Kore that all workers together may make in one window'),
        windowSeconds: z.number().positive(),
        used: Count.describe('calls of the last window'),
        limitedUntil: Time.exactOptional().describe('Kore itself has asked to be left alone until then'),
      })
      .exactOptional(),
    workers: z.array(Worker).readonly().describe('those that are alive, the oldest first'),
    breakers: z
      .array(BreakerSchema)
      .readonly()
      .exactOptional()
      .describe(
        'those that this process depends on, where it has a worker; else those that are unavailable for other workers',
      ),
  })
  .meta({
    id: 'Stats',
    examples: [
      {
        health: {
          level: 'ok',
          text: 'All is well: 12 archived and 1 failed in the last 2 minutes, 3 to go.',
        },
        states: { queued: 2, active: 1, waiting: 0, archived: 40, failed: 1 },
        paused: false,
        transcriptsPending: 3,
        oldestQueuedAt: '2026-01-05T09:29:30.000Z',
        oldestQueuedSeconds: 31,
        backlog: { sessions: 3, secondsUntilDone: 3 },
        throughput: [{ minute: '2026-01-05T09:30:00.000Z', archived: 12, failed: 1 }],
        failuresByCode: { SESSION_NOT_FOUND: 1 },
        rateLimit: { limit: 60, windowSeconds: 60, used: 14 },
        workers: [
          {
            id: '4f0c1d5e-7a1b-4c8e-9d57-0d3a5b1f2c66',
            host: 'archiver-1',
            pid: 17,
            version: '1.0.0',
            startedAt: '2026-01-05T06:00:00.000Z',
            seenAt: '2026-01-05T09:29:58.000Z',
            concurrency: 16,
            active: 1,
          },
        ],
      },
    ],
  });

/** The answer of `GET /v1/whoami`. */
export const WhoAmI = z
  .object({
    name: z
      .string()
      .describe("the token's name, or the JWT's subject; `local` where no credentials are wanted"),
    role: z.enum(ROLES).describe('of several, the one that may do most'),
    permissions: z
      .array(z.enum(ROLES))
      .readonly()
      .describe('what may be done: read, listen, enqueue, operate, erase'),
    expiresAt: Time.exactOptional().describe('when the credentials expire, where they do'),
  })
  .meta({
    id: 'WhoAmI',
    examples: [{ name: 'ops', role: 'operate', permissions: ['read', 'listen', 'enqueue', 'operate'] }],
  });

/** The answer of `GET /v1/error-codes`. */
export const ErrorCodes = z
  .object({
    codes: z
      .array(
        z.object({
          code: Code,
          meaning: z.string(),
          fix: z.string().describe('what to do about it'),
          retryable: z.boolean().describe('whether trying again can help'),
          waits: z
            .string()
            .exactOptional()
            .describe(
              'the variable that says how long it is checked again, or `forever`; left out: not at all',
            ),
        }),
      )
      .readonly(),
  })
  .meta({
    id: 'ErrorCodes',
    examples: [
      {
        codes: [
          {
            code: 'SESSION_NOT_FOUND',
            meaning: 'Kore said for SESSION_WAIT that it knows no such session',
            fix: 'check id and bot; Kore may have purged it',
            retryable: false,
            waits: 'SESSION_WAIT',
          },
        ],
      },
    ],
  });
