import type { BackfillOperations } from '../operations/backfills.ts';
import {
  BackfillBody,
  BackfillList,
  BackfillParams,
  BackfillView,
  MAX_MISSING_SHOWN,
} from './backfill-schemas.ts';
import { defaultBot } from './bot.ts';
import { ApiError } from './problem.ts';
import type { ZodServer } from './validation.ts';

/** What the routes of backfills and schedules work with. */
export interface BackfillRoutesOptions {
  /** Without it there are no such routes. */
  readonly backfills?: BackfillOperations | undefined;
  /** `KORE_BOT_ID` */
  readonly defaultBotId: string | undefined;
}

/** The routes of backfills; `app` adds the `/v1`. */
export function addBackfillRoutes(app: ZodServer, { backfills, defaultBotId }: BackfillRoutesOptions): void {
  if (!backfills) return;

  app.post(
    '/backfills',
    {
      schema: {
        tags: ['backfills'],
        summary: 'Queue what Kore has of a stretch of time and the archive has not',
        description: 'One that looks through the same already is joined. Its sessions wait behind live ones.',
        body: BackfillBody,
        response: { 202: BackfillView },
      },
    },
    async (request, reply) => {
      const { from, to, source, botId, dryRun } = request.body;
      const view = await backfills.start({
        botId: botId ?? defaultBot(defaultBotId),
        from: toUtc(from),
        ...(to !== undefined && { to: toUtc(to) }),
        ...(source && { source }),
        ...(dryRun && { dryRun }),
      });
      return reply.code(202).send(view);
    },
  );

  app.get(
    '/backfills',
    {
      schema: {
        tags: ['backfills'],
        summary: 'List backfills, those that have not ended first',
        response: { 200: BackfillList },
      },
    },
    async () => ({ backfills: await backfills.list() }),
  );

  app.get(
    '/backfills/:id',
    {
      schema: {
        tags: ['backfills'],
        summary: 'One backfill',
        params: BackfillParams,
        response: { 200: BackfillView },
        problems: [404],
      },
    },
    async (request) => {
      const { id } = request.params;
      const view = await backfills.view(id);
      if (!view) throw new ApiError(404, 'NOT_FOUND', `there is no backfill ${id}`);
      if (!view.dryRun) return view;
      return { ...view, missingSessions: await backfills.sessions(id, MAX_MISSING_SHOWN) };
    },
  );
}

function toUtc(time: string): string {
  return new Date(time).toISOString();
}
