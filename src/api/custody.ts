import type { SessionRef } from '../domain/session.ts';
import type { CustodyOperations } from '../operations/custody.ts';
import { EraseBody, HoldBody, SessionParams } from '../operations/input.ts';
import { ApiError } from './problem.ts';
import {
  EraseAnswer,
  Erasure,
  Hold,
  HoldAnswer,
  HoldList,
  HoldsQuery,
  ReleaseAnswer,
} from './schemas/custody.ts';
import { BotQuery } from './schemas/sessions.ts';
import { absentSession, defaultBot } from './sessions.ts';
import type { ZodServer } from './validation.ts';

/** What the routes of erasing and holding work with. */
export interface CustodyRoutesOptions {
  /** Without them there are no such routes. */
  readonly custody?: CustodyOperations | undefined;
  /** `KORE_BOT_ID` */
  readonly defaultBotId: string | undefined;
}

/** The routes of erasing and holding sessions; `app` adds the `/v1`. */
export function addCustodyRoutes(app: ZodServer, { custody, defaultBotId }: CustodyRoutesOptions): void {
  if (!custody) return;
  const sessionOf = (sessionId: string, botId: string | undefined): SessionRef => ({
    sessionId,
    botId: botId ?? defaultBot(defaultBotId),
  });

  app.post(
    '/sessions/:id/erase',
    {
      schema: {
        tags: ['custody'],
        summary: 'Delete all versions of all objects of a session, for good',
        description:
          'A record stays, so that nothing archives the session again. Refused, with nothing deleted, under a legal hold (HELD) or Object Lock (LOCKED). An erasure that was interrupted is completed by the same request.',
        params: SessionParams,
        querystring: BotQuery,
        body: EraseBody.nullish(),
        response: { 200: EraseAnswer },
        problems: [409],
      },
    },
    async (request) => {
      const { reason, dryRun } = request.body ?? {};
      const result = await custody.erase(sessionOf(request.params.id, request.query.botId), {
        ...(reason !== undefined && { reason }),
        ...(dryRun && { dryRun }),
      });
      if (result.outcome !== 'refused') return result;
      throw new ApiError(409, result.why === 'held' ? 'HELD' : 'LOCKED', result.message);
    },
  );

  app.get(
    '/sessions/:id/erasure',
    {
      schema: {
        tags: ['custody'],
        summary: 'When and why a session was erased',
        params: SessionParams,
        querystring: BotQuery,
        response: { 200: Erasure },
        problems: [404],
      },
    },
    async (request) => {
      const session = sessionOf(request.params.id, request.query.botId);
      const erasure = await custody.erasure(session);
      if (!erasure) throw new ApiError(404, 'NOT_FOUND', `session ${session.sessionId} was not erased`);
      return erasure;
    },
  );

  app.put(
    '/sessions/:id/hold',
    {
      schema: {
        tags: ['custody'],
        summary: 'Keep a session from being erased',
        description: "Where the bucket has Object Lock, S3's own legal hold is put on every version as well.",
        params: SessionParams,
        querystring: BotQuery,
        body: HoldBody.nullish(),
        response: { 200: HoldAnswer },
        problems: [410],
      },
    },
    async (request) => {
      const session = sessionOf(request.params.id, request.query.botId);
      const result = await custody.setHold(session, request.body?.reason);
      if (result.outcome !== 'erased') return result;
      throw await absentSession(session, custody);
    },
  );

  app.delete(
    '/sessions/:id/hold',
    {
      schema: {
        tags: ['custody'],
        summary: 'Let a session be erased again',
        params: SessionParams,
        querystring: BotQuery,
        response: { 200: ReleaseAnswer },
        problems: [404],
      },
    },
    async (request) => {
      const session = sessionOf(request.params.id, request.query.botId);
      const { outcome } = await custody.releaseHold(session);
      if (outcome === 'released') return { ...session, outcome };
      throw new ApiError(404, 'NOT_HELD', `session ${session.sessionId} is not held`);
    },
  );

  app.get(
    '/sessions/:id/hold',
    {
      schema: {
        tags: ['custody'],
        summary: 'The hold on a session',
        params: SessionParams,
        querystring: BotQuery,
        response: { 200: Hold },
        problems: [404],
      },
    },
    async (request) => {
      const session = sessionOf(request.params.id, request.query.botId);
      const hold = await custody.hold(session);
      if (!hold) throw new ApiError(404, 'NOT_HELD', `session ${session.sessionId} is not held`);
      return hold;
    },
  );

  app.get(
    '/holds',
    {
      schema: {
        tags: ['custody'],
        summary: 'All holds',
        description: 'Lists the whole archive, or all of a bot.',
        querystring: HoldsQuery,
        response: { 200: HoldList },
      },
    },
    async (request) => ({ holds: await custody.holds(request.query.botId) }),
  );
}
