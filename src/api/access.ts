import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { createRemoteJWKSet, errors, type JWTVerifyGetKey, jwtVerify } from 'jose';
import type { JwtConfig, KoreApp } from '../config/config.ts';
import { ApiError } from './problem.ts';

/** A function that tells whether a text is one of the secrets; it takes the same time whichever it is, or none. */
export function createSecretCheck(secrets: readonly string[]): (presented: string) => boolean {
  const accepted = secrets.map(digest);
  return (presented) => isAmong(digest(presented), accepted);
}

/**
 * A function that tells whether `sha256=<hex>` is the HMAC-SHA256 of the bytes by one of the secrets, in the same
 * time whichever it is, or none.
 */
export function createSignatureCheck(
  secrets: readonly string[],
): (signature: string, bytes: Uint8Array) => boolean {
  return (signature, bytes) => {
    const hex = /^sha256=([0-9a-f]{64})$/i.exec(signature.trim())?.[1];
    if (hex === undefined) return false;
    const accepted = secrets.map((secret) => createHmac('sha256', secret).update(bytes).digest());
    return isAmong(Buffer.from(hex, 'hex'), accepted);
  };
}

/** All are of the length of a SHA-256. */
function isAmong(given: Buffer, accepted: readonly Buffer[]): boolean {
  let isFound = false;
  for (const candidate of accepted) isFound = timingSafeEqual(given, candidate) || isFound;
  return isFound;
}

/** Makes all secrets equally long, as comparing in constant time needs. */
function digest(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/**
 * The algorithms of access tokens: those whose keys a JWKS can make public. HMAC is none of them, or whoever knows
 * a public key could sign with it.
 */
const ASYMMETRIC = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];
/** How far clocks may be apart. */
const CLOCK_TOLERANCE_S = 10;
const KEYS_TIMEOUT_MS = 5_000;

/**
 * A function that tells whether a text is a JSON web token of the issuer for the audience, signed by one of the
 * keys in the JWKS and not expired. The keys are fetched when they are first needed, kept for ten minutes, and
 * fetched again for a token that names an unknown one.
 *
 * It throws ApiError 503 when the keys can't be fetched: then nobody knows whether the token is right.
 */
function createAccessTokenCheck(config: JwtConfig): (token: string) => Promise<boolean> {
  const { jwksUrl, issuer, audience } = config;
  const keySet = createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: KEYS_TIMEOUT_MS });
  const getKey: JWTVerifyGetKey = async (header, token) => {
    try {
      return await keySet(header, token);
    } catch (error) {
      if (isNoKeyOf(error)) throw error;
      throw new ApiError(
        503,
        'KEYS_UNAVAILABLE',
        'the keys that sign access tokens cannot be fetched (API_JWKS_URL); try again in a moment',
        { cause: error },
      );
    }
  };
  return (token) =>
    isRight(() =>
      jwtVerify(token, getKey, {
        issuer,
        audience,
        algorithms: ASYMMETRIC,
        clockTolerance: CLOCK_TOLERANCE_S,
        requiredClaims: ['exp'],
      }),
    );
}

/**
 * A function that tells whether a text is a token of the Kore app, as Kore's BotKit sends them: HS256 by the
 * client secret, `appId` being the client id. An `exp` counts where there is one.
 */
export function createKoreTokenCheck({
  clientId,
  clientSecret,
}: KoreApp): (token: string) => Promise<boolean> {
  const key = new TextEncoder().encode(clientSecret);
  const isClientId = createSecretCheck([clientId]);
  return (token) =>
    isRight(async () => {
      const { payload } = await jwtVerify(token, key, {
        algorithms: ['HS256'],
        clockTolerance: CLOCK_TOLERANCE_S,
      });
      if (typeof payload.appId !== 'string' || !isClientId(payload.appId)) {
        throw new errors.JWTInvalid('the token is of another app');
      }
    });
}

/** Whether a token is right; what has nothing to do with the token is thrown. */
async function isRight(verify: () => Promise<unknown>): Promise<boolean> {
  try {
    await verify();
    return true;
  } catch (error) {
    if (error instanceof errors.JOSEError) return false;
    throw error;
  }
}

/** The keys are there, but none is, or several are, what the token's header asks for. */
function isNoKeyOf(error: unknown): boolean {
  return (
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys ||
    error instanceof errors.JOSENotSupported
  );
}

/** Who may use the API. */
export interface Access {
  /** `API_TOKEN` */
  readonly tokens: readonly string[];
  /** Whose JSON web tokens are accepted beside them. */
  readonly jwt?: JwtConfig | undefined;
  /** The token that this process's own commands use: see `owner.json`. */
  readonly loopbackToken?: string | undefined;
}

/** Tells who may use the API. */
export interface Guard {
  /** Whether no credentials are configured: then whoever reaches the API over loopback may use it. */
  readonly isOpen: boolean;
  /**
   * Whether a bearer token, or a JSON web token, is right.
   * @throws ApiError 503 when nobody can tell.
   */
  accepts(token: string): Promise<boolean>;
  /**
   * Lets a request pass, or throws ApiError: 401 for missing or wrong credentials, 403 for web pages where none
   * are configured, 503 when nobody can tell.
   */
  admit(headers: IncomingHttpHeaders): Promise<void>;
}

/**
 * The guard of API and dashboard.
 *
 * Without credentials the API is open to programs on this machine, but not to web pages in its browser: those
 * reach loopback as well, by a name of theirs that resolves to it (DNS rebinding; then the `Host` is that name) or
 * by a plain cross-site request (then there is an `Origin`). Both get 403. A bearer token that is presented has to
 * be right even then, so that nobody talks to another archiver than the one meant.
 */
export function createGuard({ tokens, jwt, loopbackToken }: Access): Guard {
  const isSecret = createSecretCheck([...tokens, ...(loopbackToken === undefined ? [] : [loopbackToken])]);
  const isAccessToken = jwt && createAccessTokenCheck(jwt);
  const isOpen = tokens.length === 0 && jwt === undefined;
  const accepts = async (token: string): Promise<boolean> =>
    isSecret(token) || (isAccessToken !== undefined && looksLikeJwt(token) && (await isAccessToken(token)));
  return {
    isOpen,
    accepts,
    async admit({ authorization, host, origin }) {
      const presented = bearerToken(authorization);
      if (presented !== undefined) {
        if (await accepts(presented)) return;
        throw unauthorized('the bearer token is not one of this API, or has expired', 'invalid_token');
      }
      if (!isOpen) throw unauthorized('send a token of this API as "Authorization: Bearer <token>"');
      if (!isLoopbackHost(host) || !isLoopbackOrigin(origin)) {
        throw new ApiError(
          403,
          'FORBIDDEN',
          'without API_TOKEN this API answers only to programs on the same machine, by the name localhost or its address',
        );
      }
    },
  };
}

/** A 401 that says how to do better, as RFC 6750 has it. */
export function unauthorized(message: string, error?: 'invalid_token'): ApiError {
  const challenge = `Bearer realm="voicemail-archiver"${error ? `, error="${error}"` : ''}`;
  return new ApiError(401, 'UNAUTHORIZED', message, { headers: { 'www-authenticate': challenge } });
}

/** The token of an `Authorization: Bearer <token>`. */
export function bearerToken(authorization: string | undefined): string | undefined {
  return authorization !== undefined && /^bearer /i.test(authorization)
    ? authorization.slice('bearer '.length).trim()
    : undefined;
}

function looksLikeJwt(token: string): boolean {
  return token.split('.').length === 3;
}

function isLoopbackHost(host: string | undefined): boolean {
  const name = host?.replace(/:\d*$/, '').toLowerCase();
  return name !== undefined && isLoopbackName(name);
}

/** Programs send no `Origin`; a page that this machine itself serves may use the API. */
function isLoopbackOrigin(origin: string | undefined): boolean {
  if (origin === undefined) return true;
  return URL.canParse(origin) && isLoopbackName(new URL(origin).hostname);
}

function isLoopbackName(name: string): boolean {
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name);
}
