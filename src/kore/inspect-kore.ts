/** Asks Kore's API for what nobody has, to see what it thinks of the credentials: for `doctor`. */

import type { KoreConfig } from '../config/config.ts';
import { isArchiverError } from '../errors.ts';
import { header, type KoreAnswer } from './answer.ts';
import { createExchange, type Exchange, type ExchangeLimits, type KoreRequest } from './exchange.ts';
import { isObject, parseJson } from './json.ts';
import { callsListing } from './listing-calls.ts';
import { sessionsListing } from './listing-sessions.ts';
import type { ListingSource } from './listing-source.ts';
import { interpretVoicemail } from './response.ts';
import { signToken } from './token.ts';
import { voicemailRequest } from './voicemail-request.ts';

/** An ObjectId of 1970, long before Kore. */
const NOBODY = '000000000000000000000000';
/** A second in which nothing was called. */
const NEVER = { from: new Date('2001-01-01T00:00:00Z'), to: new Date('2001-01-01T00:00:01Z') };

/** A person waits. */
const LIMITS: ExchangeLimits = {
  connectTimeoutMs: 5_000,
  headersTimeoutMs: 10_000,
  bodyTimeoutMs: 10_000,
  totalTimeoutMs: 15_000,
};

/** What came of one call. */
export interface KoreFinding {
  /** What the answer means as an error; `undefined` when it gave what was asked for. */
  readonly fault: unknown;
  /** Whether the answer was a JSON object, as all of Kore's are; `undefined` when none came. */
  readonly isKores: boolean | undefined;
  /** Whether it was an error worded as Kore words its errors. Any other server answers 404 as well. */
  readonly isWorded: boolean;
}

/** What was found. */
export interface KoreFindings {
  readonly voicemail: KoreFinding;
  /** The listing that backfills go by; not asked where the first call makes that pointless. */
  readonly listing: (KoreFinding & { readonly source: ListingSource }) | undefined;
}

/** The clock to sign by, and who hears Kore's. */
export interface InspectKoreOptions {
  readonly now: () => number;
  /** Gets the `Date` header of each answer. */
  readonly onDate: (date: string | undefined) => void;
}

/**
 * Makes one call of the voicemail API and, if the credentials are good, one of the listing; neither counts towards
 * `KORE_RATE_LIMIT`.
 *
 * @throws the signal's reason when aborted.
 */
export async function inspectKore(
  config: KoreConfig,
  options: InspectKoreOptions,
  signal: AbortSignal,
): Promise<KoreFindings> {
  const { botId, accountId } = config;
  const exchange = createExchange(config.baseUrl, LIMITS);
  const ask = (request: KoreRequest, read: (answer: KoreAnswer) => unknown) =>
    askOnce(exchange, request, read, { config, ...options }, signal);
  try {
    const session = { botId, sessionId: NOBODY };
    const voicemail = await ask(voicemailRequest(session), interpretVoicemail);
    if (!isAccepted(voicemail)) return { voicemail, listing: undefined };
    const source = accountId === undefined ? 'sessions' : 'calls';
    const listing = accountId === undefined ? sessionsListing : callsListing(accountId);
    const request = listing.request({ botId, ...NEVER, page: 0, rowsBefore: 0 });
    const found = await ask(request, (answer) => listing.read(answer));
    return { voicemail, listing: { source, ...found } };
  } finally {
    await exchange.close();
  }
}

/** Kore answered the question itself: there is such a session, or none. */
export function isAccepted({ fault, isKores, isWorded }: KoreFinding): boolean {
  const saysNone = isWorded && isArchiverError(fault, 'SESSION_NOT_FOUND');
  return isKores === true && (fault === undefined || saysNone);
}

async function askOnce(
  exchange: Exchange,
  request: KoreRequest,
  read: (answer: KoreAnswer) => unknown,
  { config, now, onDate }: InspectKoreOptions & { readonly config: KoreConfig },
  signal: AbortSignal,
): Promise<KoreFinding> {
  let isKores: boolean | undefined;
  let isWorded = false;
  try {
    const auth = await signToken(config, now());
    const answer = await exchange.send({ ...request, headers: { ...request.headers, auth } }, signal);
    onDate(header(answer, 'date'));
    const body = parseJson(answer.body);
    isKores = isObject(body);
    isWorded = isEnvelope(body);
    read(answer);
    return { fault: undefined, isKores, isWorded };
  } catch (error) {
    if (signal.aborted) throw error;
    return { fault: error, isKores, isWorded };
  }
}

/** `{errors: [{msg, code}]}` or `{code, message}`. */
function isEnvelope(body: unknown): boolean {
  if (!isObject(body)) return false;
  return Array.isArray(body.errors) || (body.code !== undefined && typeof body.message === 'string');
}
