import type { IncomingHttpHeaders } from 'node:http';
import type { JwtConfig } from '../config/config.ts';
import { createAccessTokenCheck } from './jwt.ts';
import { ApiError } from './problem.ts';
import { createSecretCheck } from './secrets.ts';

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
