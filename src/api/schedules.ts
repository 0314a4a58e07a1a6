import { parseCron, parseLookback } from '../config/schedules.ts';
import type { Schedule } from '../jobs/backfill-queue.ts';
import { Nothing, ScheduleBody, ScheduleList, ScheduleParams, ScheduleView } from './backfill-schemas.ts';
import type { BackfillRoutesOptions } from './backfills.ts';
import { ApiError } from './problem.ts';
import type { ZodServer } from './validation.ts';

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
