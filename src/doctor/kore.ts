/** Checks the Kore app's credentials by a signed call. */

import type { KoreConfig } from '../config/config.ts';
import type { ListingSource } from '../domain/backfills.ts';
import { isVoicemailError } from '../domain/errors.ts';
import { createTokenSigner, voicemailRequest } from '../kore/client.ts';
import { callsListing } from '../kore/listings/calls.ts';
import { sessionsListing } from '../kore/listings/sessions.ts';
import {
  createKoreTransport,
  header,
  type KoreAnswer,
  type KoreRequest,
  type KoreTransport,
  type TransportLimits,
} from '../kore/transport.ts';
import { interpretVoicemail } from '../kore/voicemail.ts';
import { isObject, parseJson } from '../util/json.ts';
import { type CheckResult, failed, faultOf, ok, skipped, warning } from './check.ts';
import type { ClockComparison } from './clock.ts';

const KORE = 'kore';
const LISTING = 'kore listing';
/** Whose clock is meant. */
const CLOCK = 'Kore';

const NOT_KORE = 'correct KORE_HOST, and check for a proxy between here and there that answers in its place';
const NETWORK_FIX = 'check KORE_HOST, and the network between here and there (firewall, proxy, certificates)';

/** Two results: whether voicemails may be requested, and whether the listing for backfills may be. */
export async function checkKore(
  config: KoreConfig,
  clock: ClockComparison,
  now: () => number,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  const onDate = (date: string | undefined) => clock.observe(CLOCK, date);
  const found = await inspectKore(config, { now, onDate }, signal);
  return [judgeVoicemail(found.voicemail, config, clock), judgeListing(found)];
}

function judgeVoicemail(found: KoreFinding, config: KoreConfig, clock: ClockComparison): CheckResult {
  const { fault, isKores, isWorded, status } = found;
  const host = new URL(config.baseUrl).host;
  if (isAccepted(found)) {
    return ok(KORE, `${host} accepts the credentials for voicemails of bot ${config.botId}`);
  }
  const { message, fix } = faultOf(fault, isKores === true ? `check what ${host} says` : NETWORK_FIX);
  if (isKores === false && (status === undefined || status < 500)) {
    return failed(KORE, `what answers at ${host} is not Kore's API (${message})`, NOT_KORE);
  }
  if (isVoicemailError(fault, 'KORE_UNAUTHORIZED')) {
    const offset = clock.trouble(CLOCK);
    return offset === undefined
      ? failed(KORE, message, fix)
      : failed(KORE, `${message}; ${offset}`, `set this machine's clock; otherwise ${fix}`);
  }
  if (isVoicemailError(fault, 'KORE_RATE_LIMITED')) {
    return warning(
      KORE,
      `${message}, so the credentials could not be tried`,
      'run this again a little later',
    );
  }
  if (status === 404 && !isWorded) {
    return warning(
      KORE,
      `${host} answers "not found" (404), but not in Kore's words: it may be another server`,
      'check KORE_HOST',
    );
  }
  if (isVoicemailError(fault, 'KORE_BAD_RESPONSE') && !fault.retryable) {
    return warning(KORE, `Kore accepts the credentials, but not a made-up session id (${message})`, fix);
  }
  return failed(KORE, message, fix);
}

/** Archiving goes on without it. */
function judgeListing({ listing }: KoreFindings): CheckResult {
  if (!listing) return skipped(LISTING, 'not asked, as the call before failed');
  const by = listing.source === 'calls' ? 'call details' : 'the sessions history';
  if (listing.fault === undefined) return ok(LISTING, `backfills can go by ${by}`);
  const { message, fix } = faultOf(listing.fault, NETWORK_FIX);
  return warning(LISTING, `backfills can not go by ${by}: ${message}`, fix);
}

/** An ObjectId of 1970, long before Kore. */
const UNUSED_SESSION_ID = '000000000000000000000000';
/** A second in which nothing was called. */
const NEVER = { from: new Date('2001-01-01T00:00:00Z'), to: new Date('2001-01-01T00:00:01Z') };

/** A person waits. */
const LIMITS: TransportLimits = {
  connectTimeoutMs: 5_000,
  headersTimeoutMs: 10_000,
  bodyTimeoutMs: 10_000,
  totalTimeoutMs: 15_000,
};

/** What came of one call. */
interface KoreFinding {
  /** The answer as an error; `undefined` when it was good. */
  readonly fault: unknown;
  /** The HTTP status; `undefined` when no answer came. */
  readonly status: number | undefined;
  /** Whether the answer was a JSON object, as all of Kore's are; `undefined` when none came. */
  readonly isKores: boolean | undefined;
  /** Whether it was an error worded as Kore words its errors. Any other server answers 404 as well. */
  readonly isWorded: boolean;
}

/** What was found. */
interface KoreFindings {
  readonly voicemail: KoreFinding;
  /** The listing that backfills go by; not asked where the first call makes that pointless. */
  readonly listing: (KoreFinding & { readonly source: ListingSource }) | undefined;
}

/** The clock to sign by, and what receives Kore's time. */
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
async function inspectKore(
  config: KoreConfig,
  options: InspectKoreOptions,
  signal: AbortSignal,
): Promise<KoreFindings> {
  const { botId, accountId } = config;
  const exchange = createKoreTransport(config.baseUrl, LIMITS);
  const ask = (request: KoreRequest, read: (answer: KoreAnswer) => unknown) =>
    askOnce(exchange, request, read, { config, ...options }, signal);
  try {
    const session = { botId, sessionId: UNUSED_SESSION_ID };
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
function isAccepted({ fault, isKores, isWorded }: KoreFinding): boolean {
  const saysNone = isWorded && isVoicemailError(fault, 'SESSION_NOT_FOUND');
  return isKores === true && (fault === undefined || saysNone);
}

async function askOnce(
  exchange: KoreTransport,
  request: KoreRequest,
  read: (answer: KoreAnswer) => unknown,
  { config, now, onDate }: InspectKoreOptions & { readonly config: KoreConfig },
  signal: AbortSignal,
): Promise<KoreFinding> {
  let isKores: boolean | undefined;
  let isWorded = false;
  let status: number | undefined;
  try {
    const auth = createTokenSigner(config)(now());
    const answer = await exchange.send({ ...request, headers: { ...request.headers, auth } }, signal);
    ({ status } = answer);
    onDate(header(answer, 'date'));
    const body = parseJson(answer.body);
    isKores = isObject(body);
    isWorded = isEnvelope(body);
    read(answer);
    return { fault: undefined, status, isKores, isWorded };
  } catch (error) {
    if (signal.aborted) throw error;
    return { fault: error, status, isKores, isWorded };
  }
}

/** `{errors: [{msg, code}]}` or `{code, message}`. */
function isEnvelope(body: unknown): boolean {
  if (!isObject(body)) return false;
  return Array.isArray(body.errors) || (body.code !== undefined && typeof body.message === 'string');
}
