/** The shapes of backfills and schedules in the HTTP API. */

import { z } from 'zod';
import { BACKFILL_STATES } from '../../backfills/operations.ts';
import { parseCron, parseLookback, parseScheduleName } from '../../config/schedules.ts';
import { isTooLongBackfill, LISTING_SOURCES, MAX_BACKFILL_YEARS } from '../../domain/backfills.ts';
import { ERROR_CODES } from '../../domain/errors.ts';
import { BotId, SessionId } from '../../operations/input.ts';

const Count = z.int().nonnegative();
const Time = z.iso.datetime();
const Moment = z.iso.datetime({ offset: true });
const Source = z.enum(LISTING_SOURCES);

/** Missing sessions in the view of a dry run at most. */
export const MAX_MISSING_SHOWN = 1_000;

/** `POST /v1/backfills` */
export const BackfillBody = z
  .strictObject({
    from: Moment.describe('sessions that began from then on'),
    to: Moment.optional().describe('and before then; without it, up to now'),
    source: Source.optional().describe(
      'call details, which need KORE_ACCOUNT_ID, or the sessions history; without it the first where that is possible',
    ),
    botId: BotId.optional().describe('their bot; without it the default bot (KORE_BOT_ID)'),
    dryRun: z.boolean().optional().describe('only find out what is missing from the archive'),
  })
  .refine(({ from, to }) => to === undefined || Date.parse(from) < Date.parse(to), {
    message: 'must be before "to"',
    path: ['from'],
  })
  .refine(({ from }) => Date.parse(from) <= Date.now(), { message: 'is in the future', path: ['from'] })
  .refine(({ from, to }) => !isTooLongBackfill(Date.parse(from), to ? Date.parse(to) : Date.now()), {
    message: `is more than ${MAX_BACKFILL_YEARS} years before the end`,
    path: ['from'],
  })
  .meta({ id: 'BackfillRequest', examples: [{ from: '2026-01-01T00:00:00Z' }] });

/** `{id}` in a path. */
export const BackfillParams = z.strictObject({ id: z.string().max(64) });

/** A backfill's view. */
export const BackfillViewSchema = z
  .object({
    id: z.string(),
    state: z
      .enum(BACKFILL_STATES)
      .describe(
        '"listed": all is looked through, and "open" sessions are still to be archived; "cancelled": nothing more is looked through',
      ),
    botId: BotId,
    from: Time,
    to: Time,
    source: Source.exactOptional(),
    dryRun: z.boolean(),
    listed: Count.describe('voice sessions looked through so far'),
    skipped: Count.describe('of those: archived before'),
    queued: Count.describe('of those: queued by this backfill'),
    alreadyQueued: Count.describe('of those: in the queue before'),
    withoutVoicemail: Count.describe('of those: without a voicemail'),
    missing: Count.describe('of those: missing from the archive, in a dry run'),
    archived: Count.describe('of those in the queue: archived by now'),
    failed: Count.describe('of those in the queue: failed'),
    open: Count.describe('of those in the queue: still to be archived'),
    unreadable: Count.describe("entries of Kore's listing that name no session"),
    listedTo: Time.exactOptional(),
    enqueuedAt: Time,
    startedAt: Time.exactOptional(),
    finishedAt: Time.exactOptional(),
    nextAttemptAt: Time.exactOptional(),
    error: z
      .object({ code: z.enum(ERROR_CODES), message: z.string(), retryable: z.boolean(), at: Time })
      .exactOptional(),
    missingSessions: z
      .array(SessionId)
      .readonly()
      .exactOptional()
      .describe(
        `what a dry run found missing, at most ${MAX_MISSING_SHOWN}; only in the view of one backfill`,
      ),
  })
  .meta({
    id: 'BackfillView',
    examples: [
      {
        id: '1',
        state: 'listed',
        botId: 'st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e',
        from: '2026-01-01T00:00:00.000Z',
        to: '2026-01-02T00:00:00.000Z',
        source: 'calls',
        dryRun: false,
        listed: 120,
        skipped: 100,
        queued: 18,
        alreadyQueued: 2,
        withoutVoicemail: 0,
        missing: 0,
        archived: 15,
        failed: 0,
        open: 5,
        unreadable: 0,
        enqueuedAt: '2026-01-05T09:30:00.000Z',
        startedAt: '2026-01-05T09:30:00.120Z',
      },
    ],
  });

/** The answer of `GET /v1/backfills`. */
export const BackfillList = z
  .object({ backfills: z.array(BackfillViewSchema).readonly() })
  .meta({ id: 'BackfillList' });

/** A text that a parser of the configuration accepts. */
function parsed<T>(parse: (text: string) => T) {
  return z.string().superRefine((text, context) => {
    try {
      parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : 'is not valid' });
    }
  });
}

/** `{name}` in a path. */
export const ScheduleParams = z.strictObject({ name: parsed(parseScheduleName) });

/** `PUT /v1/schedules/{name}` */
export const ScheduleBody = z
  .strictObject({
    cron: parsed(parseCron).describe('a cron expression of 5 fields (or 6, with seconds first), in UTC'),
    lookback: parsed(parseLookback).describe('how far back each run goes, as 48h or 14d'),
  })
  .meta({ id: 'ScheduleRequest', examples: [{ cron: '0 3 * * *', lookback: '48h' }] });

/** A schedule. */
export const ScheduleView = z
  .object({
    name: z.string(),
    cron: z.string(),
    lookbackMs: Count,
    nextRunAt: Time.exactOptional(),
  })
  .meta({
    id: 'Schedule',
    examples: [
      {
        name: 'nightly',
        cron: '0 3 * * *',
        lookbackMs: 172_800_000,
        nextRunAt: '2026-01-06T03:00:00.000Z',
      },
    ],
  });

/** The answer of `GET /v1/schedules`. */
export const ScheduleList = z
  .object({ schedules: z.array(ScheduleView).readonly() })
  .meta({ id: 'ScheduleList' });

/** The answer where there is nothing to say (204). */
export const Nothing = z.unknown();
