import type { z } from 'zod';
import type { ErasureView } from '../domain/custody.ts';
import { type CancelQuery, type EnqueueResult, LARGE_LIST, secondsAtRateLimit } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import type { CustodyOperations } from '../operations/custody.ts';
import { EnqueueBody, ListQuerySchema, listQueryOf, SessionParams } from '../operations/input.ts';
import type { Operations } from '../operations/operations.ts';
import { osUser } from '../util/process.ts';
import { ApiError } from './problem.ts';
import type { Identity } from './roles.ts';
import {
  BotQuery,
  CancelAllAnswer,
  CancelAllBody,
  CancelAnswer,
  CancelSessionsBody,
  EnqueueAnswer,
  type MovedBehindLive,
  PauseAnswer,
  RetryAllAnswer,
  RetryAllBody,
  RetryAnswer,
  RetrySessionsAnswer,
  RetrySessionsBody,
  SessionPageSchema,
  SessionViewSchema,
} from './schemas/sessions.ts';
import type { ZodServer } from './validation.ts';

/** What the routes under `/v1` work with. */
export interface SessionRoutesOptions {
  readonly operations: Operations;
  /** Knows which sessions were erased. */
  readonly custody?: Pick<CustodyOperations, 'erasure'> | undefined;
  /** `KORE_BOT_ID` */
  readonly defaultBotId: string | undefined;
}

/** The routes of sessions; `app` adds the `/v1`. */
export function addSessionRoutes(
  app: ZodServer,
  { operations, custody, defaultBotId }: SessionRoutesOptions,
): void {
  const botOf = (botId: string | undefined): string => botId ?? defaultBot(defaultBotId);

  app.post(
    '/sessions',
    {
      schema: {
        tags: ['sessions'],
        summary: 'Queue sessions',
        description: `An answer of 202 means that the queue holds them. Asking again for the same is safe. More than ${LARGE_LIST.toLocaleString('en')} sessions without a priority go behind live ones.`,
        body: EnqueueBody,
        response: { 202: EnqueueAnswer },
      },
    },
    async (request, reply) => {
      const { sessionIds, botId, force, maybe } = request.body;
      const bot = botOf(botId);
      const isMoved = request.body.priority === undefined && sessionIds.length > LARGE_LIST;
      const priority = isMoved ? ('backfill' as const) : request.body.priority;
      const results = await operations.enqueue(
        sessionIds.map((sessionId) => ({
          sessionId,
          botId: bot,
          by: nameOf(request.identity),
          ...(priority && { priority }),
          ...(force && { force }),
          ...(maybe && { maybe }),
        })),
      );
      return reply.code(202).send({
        results: results.map(({ sessionId, outcome, erased }) => ({
          sessionId,
          outcome,
          ...(erased && { erased }),
        })),
        ...(isMoved && { moved: await behindLive(results, operations) }),
      });
    },
  );

  app.get(
    '/sessions',
    {
      schema: {
        tags: ['sessions'],
        summary: 'List or search sessions, the newest first',
        description: 'By when they were queued; only those that the queue still knows.',
        querystring: ListQuerySchema,
        response: { 200: SessionPageSchema },
      },
    },
    async (request) => operations.list(listQueryOf(request.query)),
  );

  app.get(
    '/sessions/:id',
    {
      schema: {
        tags: ['sessions'],
        summary: 'A session, also long after it was archived',
        params: SessionParams,
        querystring: BotQuery,
        response: { 200: SessionViewSchema },
        problems: [404, 410],
      },
    },
    async (request) => {
      const session = { sessionId: request.params.id, botId: botOf(request.query.botId) };
      const view = await operations.view(session);
      if (!view) throw await absentSession(session, custody);
      return view;
    },
  );

  app.post(
    '/sessions/:id/retry',
    {
      schema: {
        tags: ['sessions'],
        summary: 'Run a failed session again',
        params: SessionParams,
        querystring: BotQuery,
        response: { 202: RetryAnswer },
        problems: [404, 409, 410],
      },
    },
    async (request, reply) => {
      const session = { sessionId: request.params.id, botId: botOf(request.query.botId) };
      const outcome = await operations.retry(session, nameOf(request.identity));
      if (outcome === 'unknown') throw await absentSession(session, custody);
      if (outcome === 'not-failed') {
        throw new ApiError(
          409,
          'NOT_FAILED',
          `session ${session.sessionId} has not failed: there is nothing to retry`,
        );
      }
      return reply.code(202).send({ sessionId: session.sessionId, outcome });
    },
  );

  const retryMany = (code: string | undefined, by: Identity | undefined) =>
    operations.retryAll(code, nameOf(by));
  app.post(
    '/sessions/retry',
    {
      schema: {
        tags: ['sessions'],
        summary: 'Run failed sessions again: all of them, or those with a code',
        body: RetrySessionsBody,
        response: { 202: RetrySessionsAnswer },
      },
    },
    async (request, reply) =>
      reply.code(202).send({ retried: await retryMany(request.body.code, request.identity) }),
  );
  app.post(
    '/retries',
    {
      schema: {
        tags: ['sessions'],
        summary: 'The older form of the same request: all failed sessions unless a code is given',
        deprecated: true,
        body: RetryAllBody.nullish(),
        response: { 202: RetryAllAnswer },
      },
    },
    async (request, reply) =>
      reply.code(202).send({ requeued: await retryMany(request.body?.code, request.identity) }),
  );

  app.delete(
    '/sessions/:id',
    {
      schema: {
        tags: ['sessions'],
        summary: 'Take a queued or waiting session out of the queue; what is archived stays',
        params: SessionParams,
        querystring: BotQuery,
        response: { 200: CancelAnswer },
        problems: [404, 409],
      },
    },
    async (request) => {
      const session = { sessionId: request.params.id, botId: botOf(request.query.botId) };
      const outcome = await operations.cancel(session);
      if (outcome === 'unknown') throw unknownSession(session);
      if (outcome === 'not-waiting') {
        throw new ApiError(
          409,
          'NOT_WAITING',
          `session ${session.sessionId} is neither queued nor waiting: there is nothing to cancel`,
        );
      }
      return { sessionId: session.sessionId, outcome };
    },
  );

  const cancelMany = async (which: z.output<typeof CancelAllBody>) => ({
    cancelled: await operations.cancelAll(cancelQuery(which)),
  });
  app.post(
    '/sessions/cancel',
    {
      schema: {
        tags: ['sessions'],
        summary: 'Take queued and waiting sessions out of the queue: all of them, or some',
        body: CancelSessionsBody,
        response: { 200: CancelAllAnswer },
      },
    },
    async (request) => cancelMany(request.body),
  );
  app.post(
    '/cancellations',
    {
      schema: {
        tags: ['sessions'],
        summary: 'The older form of the same request: all of them unless the body says which',
        deprecated: true,
        body: CancelAllBody.nullish(),
        response: { 200: CancelAllAnswer },
      },
    },
    async (request) => cancelMany(request.body ?? {}),
  );

  app.put(
    '/pause',
    {
      schema: {
        tags: ['sessions'],
        summary: 'Let no worker take a session until the queue is resumed; those in work go on',
        response: { 200: PauseAnswer },
      },
    },
    async () => {
      await operations.pause();
      return { paused: true };
    },
  );

  app.delete(
    '/pause',
    {
      schema: {
        tags: ['sessions'],
        summary: 'Let workers take sessions again',
        response: { 200: PauseAnswer },
      },
    },
    async () => {
      await operations.resume();
      return { paused: false };
    },
  );
}

/** Says of a long list that it was put behind live sessions, and for how long it will keep the workers busy. */
async function behindLive(
  results: readonly EnqueueResult[],
  operations: Operations,
): Promise<z.output<typeof MovedBehindLive>> {
  const open = results.filter(({ outcome }) => outcome !== 'already-archived').length;
  const { rateLimit } = await operations.stats();
  return {
    priority: 'backfill',
    reason: `more than ${LARGE_LIST.toLocaleString('en')} sessions without a priority go behind live ones`,
    ...(rateLimit && { secondsAtRateLimit: secondsAtRateLimit(open, rateLimit) }),
  };
}

/** Who asks, for the history of sessions. */
function nameOf(identity: Identity | undefined): string {
  return identity?.isCommand ? osUser() : (identity?.name ?? 'unknown');
}

function cancelQuery({ code, backfills, dryRun }: z.output<typeof CancelAllBody>): CancelQuery {
  return { ...(code && { code }), ...(backfills && { backfills }), ...(dryRun && { dryRun }) };
}

/** The problem of a session that is neither in the queue nor in the archive: whether it was erased. */
export async function absentSession(
  session: SessionRef,
  custody: Pick<CustodyOperations, 'erasure'> | undefined,
): Promise<ApiError> {
  const erasure = await custody?.erasure(session);
  return erasure ? erasedSession(erasure) : unknownSession(session);
}

/** The problem of a session that was erased. */
function erasedSession({ sessionId, erasedAt, reason, state }: ErasureView): ApiError {
  const why = reason === undefined ? '' : ` (${reason})`;
  const done = state === 'erased' ? `was erased at ${erasedAt}` : `is being erased since ${erasedAt}`;
  return new ApiError(410, 'ERASED', `session ${sessionId} ${done}${why}: it is not archived again`);
}

/** The problem of an unknown session. */
function unknownSession({ sessionId, botId }: SessionRef): ApiError {
  return new ApiError(
    404,
    'SESSION_NOT_FOUND',
    `neither the queue nor the archive knows session ${sessionId} of bot ${botId}`,
  );
}

/** The bot of sessions that come without one. @throws ApiError 400 when there is none. */
export function defaultBot(defaultBotId: string | undefined): string {
  if (defaultBotId !== undefined) return defaultBotId;
  throw new ApiError(
    400,
    'INVALID_REQUEST',
    'botId is missing, and there is no default bot: send botId, or set KORE_BOT_ID',
  );
}
