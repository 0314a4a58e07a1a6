/** The shapes of completeness in the HTTP API. */

import { z } from 'zod';
import { DayReportSchema } from '../../completeness/documents.ts';
import { LISTING_SOURCES } from '../../domain/backfills.ts';
import { dayOf, isRunOfDays, MAX_RUN_DAYS } from '../../domain/completeness.ts';
import { BotId } from '../../operations/input.ts';

/** A day, or a time within it. */
const Day = z
  .union([z.iso.date(), z.iso.datetime({ offset: true })])
  .transform((text) => dayOf(Date.parse(text)));
const From = Day.optional().describe(
  'the first day (UTC); without it, the first that Kore still has something of',
);
const To = Day.optional().describe('the last day; without it, today');

const RANGE = {
  message: `must not be after "to", nor more than ${MAX_RUN_DAYS} days before it`,
  path: ['from'],
};

function isRange({ from, to }: { from?: string | undefined; to?: string | undefined }): boolean {
  if (from === undefined) return true;
  return isRunOfDays(from, to ?? dayOf(Date.now()));
}

/** `GET /v1/completeness` */
export const CompletenessQuery = z
  .object({ from: From, to: To, botId: BotId.optional() })
  .refine(isRange, RANGE);

/** `POST /v1/completeness` */
export const CompletenessBody = z
  .strictObject({
    from: From,
    to: To,
    botId: BotId.optional().describe('without it the default bot (KORE_BOT_ID)'),
    source: z.enum(LISTING_SOURCES).optional(),
    reportOnly: z.boolean().optional().describe('queue nothing of what is missing'),
    write: z.boolean().optional().describe('put the reports into the archive'),
  })
  .refine(isRange, RANGE);

/** A report as it is answered. */
export const DayReportAnswer = DayReportSchema.meta({
  id: 'CompletenessReport',
  description: "what became of a bot's sessions of a day",
});

/** `GET /v1/completeness` */
export const CompletenessAnswer = z.object({ days: z.array(DayReportAnswer).readonly() });

/** A run. */
export const CompletenessRunSchema = z
  .object({
    id: z.string(),
    state: z.enum(['queued', 'active', 'waiting', 'completed', 'failed']),
    days: z.array(DayReportAnswer).readonly(),
    error: z.object({ code: z.string(), message: z.string() }).exactOptional(),
  })
  .meta({ id: 'CompletenessRun', description: 'the computing of reports by a worker' });

/** `GET /v1/completeness/{id}` */
export const RunParams = z.object({ id: z.string().min(1).max(100) });
