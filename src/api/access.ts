import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { createRemoteJWKSet, errors, type JWTVerifyGetKey, jwtVerify } from 'jose';
import type { ApiToken, JwtConfig } from '../config/config.ts';
import { DEFAULT_ROLE, isRole, type Role } from '../domain/requests.ts';
import { ApiError } from './problem.ts';
import type { WrongCredentials } from './request-limits.ts';
import { type Identity, type Permission, permits } from './roles.ts';

/** A function that decides whether a text is one of the secrets. It always takes the same time. */
export function createSecretCheck(secrets: readonly string[]): (presented: string) => boolean {
  const accepted = secrets.map(digest);
  return (presented) => isAmong(digest(presented), accepted);
}

/**
 * A function that decides whether `sha256=<hex>` is the HMAC-SHA256 of the bytes by one of the secrets. It always takes
 * the same time.
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
 * The algorithms of access tokens: those whose keys a JWKS can make public. HMAC is none of them, or anybody who knows
 * a public key could sign with it.
 */
const ASYMMETRIC = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];
/** How far clocks may be apart. */
const CLOCK_TOLERANCE_S = 10;
const KEYS_TIMEOUT_MS = 5_000;

/** A subject that is fit for logs. */
const SUBJECT = /^[\x21-\x7e]{1,64}$/;

/**
 * A function that returns who holds a JSON web token of the issuer for the audience, signed by one of the keys in the
 * JWKS and not expired; `undefined` for any other text. The keys are fetched when they are first needed, kept for ten
 * minutes, and fetched again for a token that names an unknown one.
 *
 * It throws ApiError 503 when the keys can't be fetched: then it is unknown whether the token is valid.
 */
function createAccessTokenCheck(config: JwtConfig): (token: string) => Promise<Identity | undefined> {
  const { jwksUrl, issuer, audience, roleClaim } = config;
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
  return async (token) => {
    try {
      const { payload } = await jwtVerify(token, getKey, {
        issuer,
        audience,
        algorithms: ASYMMETRIC,
        clockTolerance: CLOCK_TOLERANCE_S,
        requiredClaims: ['exp'],
      });
      const { sub, exp = 0 } = payload;
      return {
        name: sub !== undefined && SUBJECT.test(sub) ? sub : 'jwt',
        roles: rolesOf(payload[roleClaim]),
        expiresAt: exp,
      };
    } catch (error) {
      if (error instanceof errors.JOSEError) return undefined;
      throw error;
    }
  };
}

/** The roles that a claim names: in a list, or in a text with blanks between them. Unknown ones permit nothing. */
function rolesOf(claim: unknown): readonly Role[] {
  if (claim === undefined) return [DEFAULT_ROLE];
  const names: unknown[] = typeof claim === 'string' ? claim.split(' ') : Array.isArray(claim) ? claim : [];
  return [...new Set(names.filter(isRole))];
}

/** The keys are there, but none or several of them match the token's header. */
function isNoKeyOf(error: unknown): boolean {
  return (
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys ||
    error instanceof errors.JOSENotSupported
  );
}

/** Whose credentials are right. */
export interface Access {
  /** `API_TOKEN` */
  readonly tokens: readonly ApiToken[];
  /** Whose JSON web tokens are accepted beside them. */
  readonly jwt?: JwtConfig | undefined;
  /** The token that this process's own commands use: see `owner.json`. */
  readonly loopbackToken?: string | undefined;
  /** Slows down and logs wrong credentials. */
  readonly wrongCredentials: WrongCredentials;
}

/** The part of a request that the guard reads. */
export interface GuardedRequest {
  readonly id: string;
  readonly headers: IncomingHttpHeaders;
  /** The address at the other end of the connection. */
  readonly ip: string;
}

/** Decides who may use the API. */
export interface Guard {
  /** Whether no credentials are configured: then every client on loopback may use the API. */
  readonly isOpen: boolean;
  /**
   * Who holds a bearer token, or a JSON web token; `undefined` for a wrong one.
   * @throws ApiError 503 when that can't be found out.
   */
  identify(token: string): Promise<Identity | undefined>;
  /** Notes that a request came with wrong credentials; resolves when it may be answered. */
  slow(request: GuardedRequest): Promise<void>;
  /**
   * Lets a request pass, or throws ApiError: 401 for missing or wrong credentials, 403 for web pages where none
   * are configured, 503 when that can't be found out.
   */
  admit(request: GuardedRequest): Promise<Identity>;
  /** Where no credentials are configured: refuses what web pages ask for. @throws ApiError 403 */
  refuseWebPages(headers: IncomingHttpHeaders): void;
}

/** Any client on this machine, where no credentials are configured. */
const LOCAL: Identity = { name: 'local', roles: ['erase'] };
/** The commands of this process. */
const COMMAND: Identity = { name: 'command', roles: ['erase'], isCommand: true };

/**
 * The guard of API and dashboard.
 *
 * Without credentials the API is open to programs on this machine, but not to web pages in its browser. Those reach
 * loopback as well: by a name of theirs that resolves to it (DNS rebinding; then the `Host` is that name), or by a
 * plain cross-site request (then there is an `Origin`, or `Sec-Fetch-Site` says so). All of them get 403. A bearer
 * token that is presented has to be right even then, so that a command never talks to another archiver than the one
 * meant.
 */
export function createGuard({ tokens, jwt, loopbackToken, wrongCredentials }: Access): Guard {
  const known = [
    ...tokens.map(({ name, role, token }) => ({ identity: { name, roles: [role] }, digest: digest(token) })),
    ...(loopbackToken === undefined ? [] : [{ identity: COMMAND, digest: digest(loopbackToken) }]),
  ];
  const holderOf = jwt && createAccessTokenCheck(jwt);
  const isOpen = tokens.length === 0 && jwt === undefined;

  const identify: Guard['identify'] = async (token) => {
    const given = digest(token);
    let identity: Identity | undefined;
    // All of them, so that it takes the same time whichever it is.
    for (const one of known) if (timingSafeEqual(given, one.digest)) identity ??= one.identity;
    if (identity) return identity;
    return holderOf && looksLikeJwt(token) ? holderOf(token) : undefined;
  };
  const slow: Guard['slow'] = ({ ip, id }) => wrongCredentials.slow(ip, id);
  const refuseWebPages: Guard['refuseWebPages'] = (headers) => {
    if (isOpen) assertLocal(headers);
  };
  return {
    isOpen,
    identify,
    slow,
    refuseWebPages,
    async admit(request) {
      const presented = bearerToken(request.headers.authorization);
      if (presented !== undefined) {
        const identity = await identify(presented);
        if (identity) return identity;
        await slow(request);
        throw unauthorized('the bearer token is not one of this API, or has expired', 'invalid_token');
      }
      if (!isOpen) throw unauthorized('send a token of this API as "Authorization: Bearer <token>"');
      refuseWebPages(request.headers);
      return LOCAL;
    },
  };
}

/** @throws ApiError 403 when the roles of an identity do not permit the request. */
export function assertPermitted(identity: Identity, permission: Permission): void {
  if (permits(identity, permission)) return;
  const roles = identity.roles.length === 0 ? 'no role' : `the role ${identity.roles.join(', ')}`;
  throw new ApiError(403, 'FORBIDDEN', `this token has ${roles}, and this takes the right to ${permission}`, {
    headers: { 'www-authenticate': `Bearer realm="voicemail-archiver", error="insufficient_scope"` },
  });
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

/** @throws ApiError 403 for what a web page of elsewhere makes a browser on this machine ask. */
export function assertLocal(headers: IncomingHttpHeaders): void {
  if (isLocalRequest(headers)) return;
  throw new ApiError(
    403,
    'FORBIDDEN',
    'without API_TOKEN only programs on the same machine are answered, by the name localhost or its address',
  );
}

/** Whether a request comes from a program on this machine, or from a page that this machine serves itself. */
function isLocalRequest({ host, origin, 'sec-fetch-site': site }: IncomingHttpHeaders): boolean {
  return isLoopbackHost(host) && isLoopbackOrigin(origin) && site !== 'cross-site';
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
