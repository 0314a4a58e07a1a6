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

/** `offset` is the number of a page, of at most 10. */
const MAX_OFFSET = 10;

const ASKED: RequestContext = {
  scope: 'SmartAssist Analytics',
  notFound: {
    code: 'KORE_BAD_RESPONSE',
    message: 'Kore knows no call details of this account; check KORE_HOST and KORE_ACCOUNT_ID',
  },
  check: 'KORE_ACCOUNT_ID and the bot id',
};

const bodySchema = z.object({
  data: rowsSchema,
  numResults: z.coerce.number().int().nonnegative().nullish().catch(undefined),
});
const callSchema = rowSchema.extend({ isVoicemail: z.unknown().optional() });

/**
 * Call details v2 of an account, the only listing that says which sessions have a voicemail.
 *
 * Whether pages count from 0 or from 1 is not documented. They are requested from 0 on: if that is the same as
 * page 1, its rows come twice, and are dropped as all duplicates are.
 */
export function callsListing(accountId: string): Listing {
  const account = encodeURIComponent(accountId);
  return {
    limits: { maxWindowMs: 7 * DAY_MS, maxPages: MAX_OFFSET + 1 },
    request({ botId, from, to, page }) {
      return {
        path: `/agentassist/api/public/analytics/account/${account}/v2/interactionDetails?offset=${page}&limit=${PAGE_SIZE}`,
        headers: {
          'content-type': 'application/json',
          accept: 'application/json',
          accountId,
          iId: botId,
        },
        body: JSON.stringify({
          startDate: formatTime(from),
          endDate: formatTime(to),
          timeZoneOffset: 0,
          channels: ['voice'],
        }),
      };
    },
    read(answer) {
      const { data, numResults } = readListing(answer, bodySchema, ASKED);
      return {
        ...readRows(data, callSchema, ({ isVoicemail }) => readFlag(isVoicemail), callOfRow),
        isLast: data.length < PAGE_SIZE,
        // Not documented whether it counts the page or the window: a number larger than the page can only be the
        // latter.
        total: numResults != null && numResults > data.length ? numResults : undefined,
      };
    },
  };
}

/** `yyyy-mm-dd HH24:mm:ss` in UTC. */
function formatTime(time: Date): string {
  return time.toISOString().slice(0, 'yyyy-mm-ddThh:mm:ss'.length).replace('T', ' ');
}

/**
 * Whether a session has a voicemail. Only what plainly says no (`"NO"`, `"N"`, `"false"`, `false`, `0`, `"0"`) is a no;
 * where the flag is missing or unexpected, that is unknown.
 */
function readFlag(flag: unknown): boolean | undefined {
  const word = typeof flag === 'string' ? flag.slice(0, MAX_FLAG_CHARACTERS).trim().toLowerCase() : flag;
  if (word === false || word === 0 || word === 'no' || word === 'n' || word === 'false' || word === '0') {
    return false;
  }
  const isYes =
    word === true || word === 1 || word === 'yes' || word === 'y' || word === 'true' || word === '1';
  return isYes ? true : undefined;
}

const MAX_FLAG_CHARACTERS = 16;
