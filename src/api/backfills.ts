import type { BackfillOperations } from '../backfills/operations.ts';
import { parseCron, parseLookback } from '../config/schedules.ts';
import type { Schedule } from '../jobs/backfill-queue.ts';
import { ApiError } from './problem.ts';
import {
  BackfillBody,
  BackfillList,
  BackfillParams,
  BackfillViewSchema,
  MAX_MISSING_SHOWN,
  Nothing,
  ScheduleBody,
  ScheduleList,
  ScheduleParams,
  ScheduleView,
} from './schemas/backfills.ts';
import { defaultBot } from './sessions.ts';
import type { ZodServer } from './validation.ts';

/** What the routes of backfills and schedules work with. */
interface BackfillRoutesOptions {
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
        description: 'One that is under way for the same is joined. Its sessions wait behind live ones.',
        body: BackfillBody,
        response: { 202: BackfillViewSchema },
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
        response: { 200: BackfillViewSchema },
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

  app.delete(
    '/backfills/:id',
    {
      schema: {
        tags: ['backfills'],
        summary: 'Cancel a backfill that has not ended; what it has queued stays queued',
        params: BackfillParams,
        response: { 200: BackfillViewSchema },
        problems: [404, 409],
      },
    },
    async (request) => {
      const { id } = request.params;
      const outcome = await backfills.cancel(id);
      const view = outcome && (await backfills.view(id));
      if (!view) throw new ApiError(404, 'NOT_FOUND', `there is no backfill ${id}`);
      if (outcome === 'ended') {
        throw new ApiError(409, 'NOT_WAITING', `the backfill ${id} has ended: there is nothing to cancel`);
      }
      return view;
    },
  );
}

function toUtc(time: string): string {
  return new Date(time).toISOString();
}

/** The routes of schedules; `app` adds the `/v1`. */
export function addScheduleRoutes(app: ZodServer, { backfills }: BackfillRoutesOptions): void {
  if (!backfills) return;

  app.get(
    '/schedules',
    {
      schema: {
        tags: ['schedules'],
        summary: 'List backfills on a timetable, by name',
        response: { 200: ScheduleList },
      },
    },
    async () => ({ schedules: (await backfills.schedules()).map(viewOf) }),
  );

  app.put(
    '/schedules/:name',
    {
      schema: {
        tags: ['schedules'],
        summary: 'Set a schedule, in place of the one of that name',
        params: ScheduleParams,
        body: ScheduleBody,
        response: { 200: ScheduleView },
      },
    },
    async (request) => {
      const { name } = request.params;
      const { cron, lookback } = request.body;
      const spec = { name, cron: parseCron(cron), lookbackMs: parseLookback(lookback) };
      await backfills.setSchedule(spec);
      const schedule = (await backfills.schedules()).find((one) => one.name === name);
      return viewOf(schedule ?? { ...spec, nextRunAt: undefined });
    },
  );

  app.delete(
    '/schedules/:name',
    {
      schema: {
        tags: ['schedules'],
        summary: 'Remove a schedule; one that SCHEDULES declares comes back while workers run with it',
        params: ScheduleParams,
        response: { 204: Nothing },
        problems: [404],
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      if (await backfills.removeSchedule(name)) return reply.code(204).send();
      throw new ApiError(404, 'NOT_FOUND', `there is no schedule ${name}`);
    },
  );
}

function viewOf({ name, cron, lookbackMs, nextRunAt }: Schedule) {
  return {
    name,
    cron,
    lookbackMs,
    ...(nextRunAt !== undefined && { nextRunAt: new Date(nextRunAt).toISOString() }),
  };
}
