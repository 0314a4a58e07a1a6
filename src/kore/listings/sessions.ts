import { z } from 'zod';
import { DAY_MS } from '../../domain/completeness.ts';
import type { RequestContext } from '../errors.ts';
import {
  callOfRow,
  type Listing,
  PAGE_SIZE,
  readListing,
  readRows,
  rowSchema,
  rowsSchema,
} from './listing.ts';

const MINUTE_MS = 60 * 1000;

const ASKED: RequestContext = {
  scope: 'Bot Sessions',
  notFound: {
    code: 'KORE_BAD_RESPONSE',
    message: 'Kore knows no sessions history of this bot; check KORE_HOST and the bot id',
  },
  check: 'the bot id',
};

const bodySchema = z.object({
  sessions: rowsSchema,
  total: z.coerce.number().int().nonnegative().nullish().catch(undefined),
  moreAvailable: z.boolean().nullish().catch(undefined),
});

/**
 * The sessions history of a bot, newest first. It does not say which sessions have a voicemail.
 *
 * @see https://docs.kore.ai/ai-for-service/apis/automation/get-sessions-history
 */
export const sessionsListing: Listing = {
  // "Under 7 days". The number of pages is this program's choice: a window that is interrupted is listed again from its
  // first page.
  limits: { maxWindowMs: 7 * DAY_MS - MINUTE_MS, maxPages: 20 },
  request({ botId, from, to, rowsBefore }) {
    return {
      path: `/api/public/bot/${encodeURIComponent(botId)}/getSessions`,
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({
        skip: rowsBefore,
        limit: PAGE_SIZE,
        dateFrom: from.toISOString(),
        dateTo: to.toISOString(),
      }),
    };
  },
  read(answer) {
    const { sessions, total, moreAvailable } = readListing(answer, bodySchema, ASKED);
    return {
      ...readRows(sessions, rowSchema, () => undefined, callOfRow),
      isLast: sessions.length === 0 || !(moreAvailable ?? sessions.length >= PAGE_SIZE),
      total: total ?? undefined,
    };
  },
};
