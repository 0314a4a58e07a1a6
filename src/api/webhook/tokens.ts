import { createHash } from 'node:crypto';
import { compactVerify, errors } from 'jose';
import type { KoreApp } from '../../config/config.ts';
import { KORE_AUDIENCE } from '../../domain/voicemail.ts';
import { isObject, type JsonObject, parseJson } from '../../util/json.ts';
import { createSecretCheck } from '../access.ts';

/** Both sign with the client secret; Kore's own samples use either. */
const ALGORITHMS = ['HS256', 'HS512'];
/** How far clocks may be apart. */
const CLOCK_TOLERANCE_MS = 10_000;
/** A token that was caught on its way is good for no longer than this. */
const MAX_LIFETIME_MS = 60 * 60 * 1000;
/** Kore writes times in milliseconds as well; as seconds such numbers lie beyond this, the year 2100. */
const MAX_UNIX_SECONDS = Date.UTC(2100, 0, 1) / 1000;

/**
 * A function that decides whether a text is a token of the Kore app, as Kore's BotKit sends them: HS256 or HS512 by the
 * client secret, `appId` being the client id, with an `exp` that has not passed and is at most an hour away.
 *
 * Tokens that this project signs itself are refused: somebody who sees one on its way to Kore must not be able to queue
 * sessions with it. Their audience identifies them.
 */
export function createKoreTokenCheck({
  clientId,
  clientSecret,
}: KoreApp): (token: string) => Promise<boolean> {
  const key = new TextEncoder().encode(clientSecret);
  const isClientId = createSecretCheck([clientId]);
  return async (token) => {
    const payload = await verified(token, key);
    if (!payload || typeof payload.appId !== 'string' || !isClientId(payload.appId)) return false;
    return !isOurOwn(payload) && isCurrent(payload, Date.now());
  };
}

/**
 * What a token says, if it is signed with the key. Its times are not checked here: jose takes all of them for seconds.
 */
async function verified(token: string, key: Uint8Array): Promise<JsonObject | undefined> {
  try {
    const { payload } = await compactVerify(token, key, { algorithms: ALGORITHMS });
    const claims = parseJson(new TextDecoder().decode(payload));
    return isObject(claims) ? claims : undefined;
  } catch (error) {
    if (error instanceof errors.JOSEError) return undefined;
    throw error;
  }
}

function isOurOwn({ aud }: JsonObject): boolean {
  return Array.isArray(aud) ? aud.includes(KORE_AUDIENCE) : aud === KORE_AUDIENCE;
}

function isCurrent({ exp, nbf }: JsonObject, now: number): boolean {
  const expiresAt = unixMs(exp);
  if (expiresAt === undefined || expiresAt <= now - CLOCK_TOLERANCE_MS) return false;
  const beginsAt = nbf === undefined ? now : unixMs(nbf);
  if (beginsAt === undefined || beginsAt > now + CLOCK_TOLERANCE_MS) return false;
  return expiresAt <= now + MAX_LIFETIME_MS + CLOCK_TOLERANCE_MS;
}

function unixMs(time: unknown): number | undefined {
  if (typeof time !== 'number' || !Number.isFinite(time)) return undefined;
  return time > MAX_UNIX_SECONDS ? time : time * 1000;
}

/** How many bodies are stored, and for how long; 10,000 take about 1 MB. */
const MAX_REMEMBERED = 10_000;
const REMEMBERED_MS = 60 * 60 * 1000;

/**
 * The signed bodies that were accepted during the last hour. An attacker who intercepts one can send it again, but
 * not change it: this is how it is recognised.
 */
export class SignedBodies {
  /** By their hashes, the oldest first: until when, in the milliseconds of `performance.now()`. */
  readonly #until = new Map<string, number>();

  /** Stores an accepted body. */
  add(body: Uint8Array): void {
    const key = keyOf(body);
    this.#until.delete(key);
    this.#until.set(key, performance.now() + REMEMBERED_MS);
    const [oldest] = this.#until.keys();
    if (this.#until.size > MAX_REMEMBERED && oldest !== undefined) this.#until.delete(oldest);
  }

  /** Whether the body was accepted before. */
  has(body: Uint8Array): boolean {
    return (this.#until.get(keyOf(body)) ?? 0) > performance.now();
  }
}

function keyOf(body: Uint8Array): string {
  return createHash('sha256').update(body).digest('base64');
}
