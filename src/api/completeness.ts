import type { CompletenessOperations } from '../completeness/operations.ts';
import { dayOf, daysBetween, daysWithinRetention } from '../domain/completeness.ts';
import { ApiError } from './problem.ts';
import {
  CompletenessAnswer,
  CompletenessBody,
  CompletenessQuery,
  CompletenessRunSchema,
  RunParams,
} from './schemas/completeness.ts';
import { defaultBot } from './sessions.ts';
import type { ZodServer } from './validation.ts';

/** What the routes of completeness work with. */
interface CompletenessRoutesOptions {
  /** Without it there are no such routes. */
  readonly completeness?: CompletenessOperations | undefined;
  /** `KORE_BOT_ID` */
  readonly defaultBotId: string | undefined;
  /** `KORE_RETENTION` (milliseconds), where it is known. */
  readonly retentionMs?: number | undefined;
}

/** The routes of completeness; `app` adds the `/v1`. */
export function addCompletenessRoutes(
  app: ZodServer,
  { completeness, defaultBotId, retentionMs }: CompletenessRoutesOptions,
): void {
  if (!completeness) return;

  app.get(
    '/completeness',
    {
      schema: {
        tags: ['completeness'],
        summary: 'The last written report of each day',
        description:
          'As the daily run, or one with `write`, has computed them. A day without a report says `not-computed`.',
        querystring: CompletenessQuery,
        response: { 200: CompletenessAnswer },
      },
    },
    async (request) => {
      const { from, to, botId } = request.query;
      const now = Date.now();
      const today = dayOf(now);
      const first = from ?? daysWithinRetention(now, retentionMs)[0] ?? today;
      // Days in the future have no reports, and there is no end of them.
      const days = daysBetween(first, to === undefined || to > today ? today : to);
      return { days: await completeness.reports(botId ?? defaultBot(defaultBotId), days) };
    },
  );

  app.post(
    '/completeness',
    {
      schema: {
        tags: ['completeness'],
        summary: 'Compute the reports of some days now',
        description:
          'A worker lists the days at Kore and, unless `reportOnly`, queues what is missing behind live sessions. A run under way for the same is joined.',
        body: CompletenessBody,
        response: { 202: CompletenessRunSchema },
      },
    },
    async (request, reply) => {
      const { botId, from, to, source, reportOnly, write } = request.body;
      const run = await completeness.start({
        botId: botId ?? defaultBot(defaultBotId),
        ...(from && { from }),
        ...(to && { to }),
        ...(source && { source }),
        ...(reportOnly && { reportOnly }),
        ...(write && { write }),
      });
      return reply.code(202).send(run);
    },
  );

  app.get(
    '/completeness/:id',
    {
      schema: {
        tags: ['completeness'],
        summary: 'A run, with the days that are computed',
        params: RunParams,
        response: { 200: CompletenessRunSchema },
        problems: [404],
      },
    },
    async (request) => {
      const run = await completeness.run(request.params.id);
      if (!run) throw new ApiError(404, 'NOT_FOUND', `there is no completeness run ${request.params.id}`);
      return run;
    },
  );
}
