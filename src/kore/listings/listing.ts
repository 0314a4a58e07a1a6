/**
 * Kore's two listings of sessions, as far as they have anything in common. Each lists the sessions of a closed
 * window of time, page by page.
 */

import { z } from 'zod';
import { boundedCall, type CallMetadata } from '../../domain/call.ts';
import { VoicemailError } from '../../domain/errors.ts';
import { isValidId } from '../../domain/session.ts';
import { isObject, parseJson, readPointer } from '../../util/json.ts';
import { notJson, type RequestContext, refusal } from '../errors.ts';
import { isSuccess, type KoreAnswer, type KoreRequest } from '../transport.ts';

/** A session as a listing shows it. */
export interface ListedSession {
  readonly sessionId: string;
  /** Whether it has a voicemail; `undefined` where the listing does not say. */
  readonly hasVoicemail: boolean | undefined;
  /** What the row says of the call; left out where it says nothing. */
  readonly call?: CallMetadata;
}

/** Which page of which window. */
export interface PageQuery {
  readonly botId: string;
  /** Whole seconds. */
  readonly from: Date;
  /** Whole seconds. Whether the listing includes this very second is not documented. */
  readonly to: Date;
  /** Counts from 0. */
  readonly page: number;
  /** How many rows the pages before had: a server may send fewer than requested. */
  readonly rowsBefore: number;
}

/** One page. */
export interface ListingPage {
  /** Sessions that may be voice, in the order listed; the same one may stand there twice. */
  readonly sessions: readonly ListedSession[];
  /** All entries, also those of text channels. */
  readonly rows: number;
  /** Entries that name no session, or none with a valid id. */
  readonly unreadable: number;
  /** Whether no further page has anything. */
  readonly isLast: boolean;
  /** How many entries the window has, where the listing says so. */
  readonly total: number | undefined;
}

/** What a listing allows. */
export interface ListingLimits {
  /** The longest window. */
  readonly maxWindowMs: number;
  /** The most pages of a window; more rows need a shorter window. */
  readonly maxPages: number;
}

/** A listing: how to ask it, and how to read what it answers. */
export interface Listing {
  readonly limits: ListingLimits;
  request(query: PageQuery): KoreRequest;
  /** @throws VoicemailError with any of the `KORE_*` codes. */
  read(answer: KoreAnswer): ListingPage;
}

/** Requested rows of a page: the most that both listings give. */
export const PAGE_SIZE = 100;

/**
 * Channels that are plainly text, without case, blanks, `_` and `-`. Voice has many names (`korevg`, `IVR`,
 * `audiocodes`, `twiliovoice`, other gateways), so whatever is not here may be voice.
 */
const TEXT_CHANNELS: ReadonlySet<string> = new Set([
  'email',
  'emails',
  'facebook',
  'fb',
  'instagram',
  'line',
  'mail',
  'mms',
  'rcs',
  'rtm',
  'sms',
  'telegram',
  'text',
  'twiliosms',
  'twitter',
  'viber',
  'websdk',
]);
/** The same for families of names: `livechat`, `webchat`, `whatsappbusiness`, `applemessages`. */
const TEXT_CHANNEL = /chat|whatsapp|messag|messenger/;
const VOICE_CHANNEL = /voice|call|phone|ivr|sip|pstn/;
const MAX_CHANNEL_CHARACTERS = 64;

/** Whether a channel is for text only, and so has no voicemails. */
function isTextChannel(channel: unknown): boolean {
  if (typeof channel !== 'string' || channel.length > MAX_CHANNEL_CHARACTERS) return false;
  const name = channel.toLowerCase().replace(/[\s_-]+/g, '');
  return TEXT_CHANNELS.has(name) || (TEXT_CHANNEL.test(name) && !VOICE_CHANNEL.test(name));
}

/** The rows of a page. A server may send more than requested, but only up to a limit, because each row is checked. */
export const rowsSchema = z.array(z.unknown()).max(100 * PAGE_SIZE);

/** What every row of a listing has, whatever else is in it. */
export const rowSchema = z.object({
  sessionId: z.string().trim().refine(isValidId),
  channel: z.unknown().optional(),
});

/**
 * The body of a listing's answer, checked.
 * @throws VoicemailError with any of the `KORE_*` codes.
 */
export function readListing<Body>(
  answer: KoreAnswer,
  schema: z.ZodType<Body>,
  asked: RequestContext,
  now: number = Date.now(),
): Body {
  const body = parseJson(answer.body);
  const checked = schema.safeParse(body);
  // What lists sessions is an answer, whatever else it says.
  if (checked.success && isSuccess(answer)) return checked.data;
  const refused = refusal(answer, body, now, asked);
  if (refused !== undefined) throw refused;
  if (body === undefined) throw notJson(answer);
  // Neither zod's error nor the value: it may hold callers' names.
  const place = checked.error?.issues[0]?.path.join(' > ') ?? '';
  const what = place === '' ? 'it is no object' : `at ${place}`;
  throw new VoicemailError('KORE_BAD_RESPONSE', `Kore's listing has an unexpected shape: ${what}`);
}

/** The rows that may be voice sessions. */
export function readRows<Row extends z.infer<typeof rowSchema>>(
  rows: readonly unknown[],
  schema: z.ZodType<Row>,
  hasVoicemail: (row: Row) => boolean | undefined,
  callOf: (row: unknown) => CallMetadata | undefined,
): Pick<ListingPage, 'sessions' | 'rows' | 'unreadable'> {
  const sessions: ListedSession[] = [];
  let unreadable = 0;
  for (const row of rows) {
    const checked = schema.safeParse(row);
    if (!checked.success) {
      unreadable += 1;
      continue;
    }
    const { sessionId, channel } = checked.data;
    if (isTextChannel(channel)) continue;
    const call = callOf(row);
    sessions.push({ sessionId, hasVoicemail: hasVoicemail(checked.data), ...(call && { call }) });
  }
  return { sessions, rows: rows.length, unreadable };
}

/**
 * Where rows have what, the likeliest first. Kore documents samples and no list of fields: of these names,
 * `sessionTags.callerNumber`, `tags`, `queues`, `direction` and the times are in them; the others are what other
 * versions and gateways may have. A row without any of them says nothing of the call, which does no harm.
 *
 * @see https://docs.kore.ai/ai-for-service/apis/automation/get-sessions-history
 */
const PLACES = {
  from: [
    '/sessionTags/callerNumber',
    '/callerNumber',
    '/from',
    '/caller',
    '/ani',
    '/customerInfo/phoneNumber',
    '/customerinfo/phoneNumber',
  ],
  to: ['/sessionTags/dialedNumber', '/dialedNumber', '/calledNumber', '/to', '/dnis', '/phoneNumber'],
  queue: ['/queues/0/name', '/queues/0', '/queueName', '/queue'],
  direction: ['/direction', '/callDirection'],
} as const;
const STARTED = ['/sessionStartTime', '/start_time', '/startTime'];
const ENDED = ['/sessionEndTime', '/end_time', '/endTime'];
const TAGS = ['/tags', '/sessionLevelTags', '/sessionTags/sessionTags'];

const MAX_TEXT_CHARACTERS = 256;
const MAX_TAGS = 20;

/** What a row of a listing says of its call; `undefined` where it says nothing. */
export function callOfRow(row: unknown): CallMetadata | undefined {
  const first = <T>(pointers: readonly string[], read: (value: unknown) => T | undefined): T | undefined => {
    for (const pointer of pointers) {
      const value = read(readPointer(row, pointer));
      if (value !== undefined) return value;
    }
    return undefined;
  };
  const texts = Object.entries(PLACES).map(([name, pointers]) => [name, first(pointers, asText)] as const);
  const startedAt = first(STARTED, asTime);
  const endedAt = first(ENDED, asTime);
  const tags = first(TAGS, asTags);
  return boundedCall({
    ...Object.fromEntries(texts.filter(([, text]) => text !== undefined)),
    ...(startedAt && { startedAt }),
    ...(endedAt && { endedAt }),
    ...(tags && { tags }),
  });
}

function asText(value: unknown): string | undefined {
  if (typeof value === 'number') return String(value);
  const text = typeof value === 'string' ? value.trim().slice(0, MAX_TEXT_CHARACTERS) : '';
  return text === '' ? undefined : text;
}

/** ISO 8601 in UTC; times without a zone are taken to be in UTC, as requested. */
function asTime(value: unknown): string | undefined {
  if (typeof value !== 'string' || value.length > MAX_TEXT_CHARACTERS) return undefined;
  const hasZone = /(?:Z|[+-]\d\d:?\d\d)$/.test(value);
  const time = new Date(hasZone ? value : `${value.trim().replace(' ', 'T')}Z`);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}

function asTags(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const tags = value.slice(0, MAX_TAGS).flatMap((tag) => asText(isObject(tag) ? tag.name : tag) ?? []);
  return tags.length === 0 ? undefined : tags;
}
