import { createHmac, createSecretKey, type KeyObject, randomUUID } from 'node:crypto';
import type { KoreConfig } from '../config/config.ts';
import { type ErrorCode, isVoicemailError, VoicemailError } from '../domain/errors.ts';
import { isValidId, type SessionRef } from '../domain/session.ts';
import {
  type CallClass,
  type CallLimit,
  KORE_AUDIENCE,
  type KoreDocument,
  type Voicemail,
} from '../domain/voicemail.ts';
import { isObject } from '../util/json.ts';
import type { Logger } from '../util/log.ts';
import type { Listing, ListingPage, PageQuery } from './listings/listing.ts';
import { createKoreTransport, type KoreAnswer, type KoreRequest, type TransportLimits } from './transport.ts';
import { interpretVoicemail } from './voicemail.ts';

/** How one request to Kore ended, for metrics. */
export interface CallOutcome {
  /** `undefined` when no answer came. */
  readonly status: number | undefined;
  /** Missing when the call succeeded, or was aborted. */
  readonly code?: ErrorCode;
  /** From sending to the last byte, without the wait for the rate limit. */
  readonly milliseconds: number;
}

export interface KoreClientOptions extends TransportLimits {
  readonly config: KoreConfig;
  /** Asked before every request. */
  readonly limit: CallLimit;
  readonly log: Logger;
  /** Called with every request when it ends. */
  readonly onCall?: (outcome: CallOutcome) => void;
}

/** The calls this project makes to Kore. */
export interface KoreClient {
  /**
   * What Kore has of a session now: recordings with fresh URLs, and transcription messages.
   *
   * @throws VoicemailError with any of the `KORE_*` codes or `SESSION_NOT_FOUND`; the signal's own reason when
   * aborted.
   */
  fetchVoicemail(session: SessionRef, callClass: CallClass, signal: AbortSignal): Promise<Voicemail>;
  /**
   * One page of a listing of sessions, as background work.
   *
   * @throws VoicemailError with any of the `KORE_*` codes; the signal's own reason when aborted.
   */
  listPage(listing: Listing, query: PageQuery, signal: AbortSignal): Promise<ListingPage>;
  /** Closes the connections once running calls have ended. */
  close(): Promise<void>;
}

/**
 * A client of Kore's voicemail API: a fresh token per request, connections that are kept, bounds on time and
 * size, and the fleet-wide limit asked before every request.
 *
 * @example
 * const kore = createKoreClient({ config, limit, log });
 * const voicemail = await kore.fetchVoicemail({ botId, sessionId }, 'live', signal);
 */
export function createKoreClient(options: KoreClientOptions): KoreClient {
  const { config, limit, log, onCall } = options;
  const signToken = createTokenSigner(config);
  let saidForeignIds = false;
  const exchange = createKoreTransport(
    config.baseUrl,
    { maxBodyBytes: config.maxAnswerBytes, ...options },
    config.proxy,
  );

  async function fetchVoicemail(
    session: SessionRef,
    callClass: CallClass,
    signal: AbortSignal,
  ): Promise<Voicemail> {
    const voicemail = await call(voicemailRequest(session), interpretVoicemail, callClass, signal);
    logForeignIds(session, voicemail.transcriptions);
    const { ignoredEntries } = voicemail;
    if (ignoredEntries !== undefined) {
      log.info(
        { session: session.sessionId, bot: session.botId, entries: ignoredEntries },
        'the list of recordings has entries with nothing in them: they are ignored',
      );
    }
    return voicemail;
  }

  /**
   * One call to Kore, of any kind. Refused credentials are signed again, as a token can be
   * refused for passing reasons (a clock that was just set, an app that is just being published).
   */
  async function call<Result>(
    request: KoreRequest,
    read: (answer: KoreAnswer) => Result,
    callClass: CallClass,
    signal: AbortSignal,
  ): Promise<Result> {
    try {
      return await sendSigned(request, read, callClass, signal);
    } catch (error) {
      if (!isVoicemailError(error, 'KORE_UNAUTHORIZED')) throw error;
      log.info({ reason: error.message }, 'Kore refused the credentials, signing again');
      return await sendSigned(request, read, callClass, signal);
    }
  }

  async function sendSigned<Result>(
    request: KoreRequest,
    read: (answer: KoreAnswer) => Result,
    callClass: CallClass,
    signal: AbortSignal,
  ): Promise<Result> {
    await limit.acquire(callClass, signal);
    const auth = signToken(Date.now());
    const started = performance.now();
    let status: number | undefined;
    let code: ErrorCode | undefined;
    try {
      const answer = await exchange.send({ ...request, headers: { ...request.headers, auth } }, signal);
      status = answer.status;
      return read(answer);
    } catch (error) {
      if (error instanceof VoicemailError) code = error.code;
      if (isVoicemailError(error, 'KORE_RATE_LIMITED')) await pauseAll(error);
      throw error;
    } finally {
      const milliseconds = performance.now() - started;
      onCall?.(code === undefined ? { status, milliseconds } : { status, code, milliseconds });
    }
  }

  /** Pauses the calls of all workers, because Kore asked for it. A failure of that is only logged. */
  async function pauseAll(limited: VoicemailError): Promise<void> {
    try {
      await limit.pause(limited.retryAfterMs ?? 0);
    } catch (error) {
      log.error({ err: error }, 'could not pause the calls of the other workers to Kore');
    }
  }

  /**
   * Kore's own sample has other ids inside the transcript than the requested ones, so a mismatch is no failure. Where
   * it is so of one, it is mostly so of all: the first one is said, the others at the level `debug`. What is no id is
   * not logged: it is text from outside.
   */
  function logForeignIds(session: SessionRef, transcriptions: readonly KoreDocument[]): void {
    const foreignBotIds = otherIds(transcriptions, 'botId', session.botId);
    const foreignSessionIds = otherIds(transcriptions, 'sessionId', session.sessionId);
    if (foreignBotIds.length === 0 && foreignSessionIds.length === 0) return;
    const level = saidForeignIds ? 'debug' : 'info';
    saidForeignIds = true;
    log[level](
      { session: session.sessionId, bot: session.botId, foreignBotIds, foreignSessionIds },
      'the transcript names other ids than its session',
    );
  }

  return {
    fetchVoicemail,
    listPage: (listing, query, signal) =>
      call(listing.request(query), (answer) => listing.read(answer), 'background', signal),
    close: () => exchange.close(),
  };
}

/** Of many messages with an id each, the first few ids are enough. */
const MAX_IDS_LOGGED = 5;

function otherIds(transcriptions: readonly KoreDocument[], field: string, expected: string): string[] {
  const ids = transcriptions
    .map((message) => (isObject(message) ? message[field] : undefined))
    .filter((id) => typeof id === 'string');
  return [...new Set(ids)]
    .filter((id) => id !== expected)
    .slice(0, MAX_IDS_LOGGED)
    .map((id) => (isValidId(id) ? id : '(no id)'));
}

/** The request for a session's voicemail, without its token. */
export function voicemailRequest({ botId, sessionId }: SessionRef): KoreRequest {
  const query = `sessionId=${encodeURIComponent(sessionId)}&transcription=true`;
  return {
    path: `/api/public/bot/${encodeURIComponent(botId)}/voicemail?${query}`,
    headers: { 'content-type': 'application/json', accept: 'application/json' },
  };
}

/** What a token is signed with: the Kore app's client id and secret. */
export interface KoreCredentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** Short, as a token serves one request; apps with 'Enforce JTI' accept at most an hour. */
const LIFETIME_SECONDS = 5 * 60;

const HEADER = encode({ alg: 'HS256', typ: 'JWT' });

/**
 * Makes a function that signs a token for one request to Kore's API: HS256 over the client secret, with a `jti` of its
 * own, since apps with 'Enforce JTI' accept each token only once.
 *
 * Signed here rather than by jose, whose WebCrypto takes its key in again and goes through a queue of jobs for each
 * token: 150 µs of CPU time, and this takes 5. What others have signed is verified by jose.
 *
 * @returns takes the time (milliseconds since 1970); a token is valid from then for 5 minutes.
 * @example
 * const signToken = createTokenSigner({ clientId: 'cs-...', clientSecret: '...' });
 * const headers = { auth: signToken(Date.now()) };
 */
export function createTokenSigner({ clientId, clientSecret }: KoreCredentials): (now: number) => string {
  const key: KeyObject = createSecretKey(clientSecret, 'utf8');
  return (now) => {
    const issuedAt = Math.floor(now / 1000);
    const claims = {
      appId: clientId,
      sub: clientId,
      iss: clientId,
      aud: KORE_AUDIENCE,
      iat: issuedAt,
      exp: issuedAt + LIFETIME_SECONDS,
      jti: randomUUID(),
    };
    const signed = `${HEADER}.${encode(claims)}`;
    return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
  };
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
