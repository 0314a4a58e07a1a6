import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyRequest } from 'fastify';
import type { Guard } from '../access.ts';
import { ApiError } from '../problem.ts';
import type { Identity } from '../roles.ts';
import type { LoginSessions } from './sessions.ts';

/** The cookie of who has logged in. */
export const SESSION_COOKIE = 'archiver_session';

/** What a request with a cookie is judged by. */
export interface CookieAccess {
  readonly guard: Guard;
  /** Without them nobody can log in. */
  readonly logins?: LoginSessions | undefined;
}

/**
 * Who sent a request to the API: by its header `Authorization`, or by the cookie of who has logged in, where the
 * request comes from a page of this server.
 * @throws ApiError as the guard does, and 403 for a cookie that another page's request brought along.
 */
export async function admitToApi(
  request: FastifyRequest,
  { guard, logins }: CookieAccess,
): Promise<Identity> {
  const { headers } = request;
  if (headers.authorization !== undefined || guard.isOpen) return guard.admit(request);
  const identity = logins && (await loggedIn(headers, logins));
  if (!identity) return guard.admit(request);
  refuseOtherPages(request);
  return identity;
}

/** Who has logged in with the cookie that a request brings along. */
export async function loggedIn(
  headers: IncomingHttpHeaders,
  logins: LoginSessions,
): Promise<Identity | undefined> {
  for (const value of cookiesOf(headers)) {
    const identity = await logins.find(value);
    if (identity) return { ...identity, isLoggedIn: true };
  }
  return undefined;
}

/** The values of our cookie; a browser sends one for each path it was set on. */
export function cookiesOf({ cookie: header = '' }: IncomingHttpHeaders): string[] {
  return header.split(';').flatMap((pair) => {
    const [name, value = ''] = pair.trim().split(/=(.*)/s);
    return name === SESSION_COOKIE ? [value] : [];
  });
}

/** The header that gives a browser the cookie, or takes it away with the age 0. */
export function setCookie(
  value: string,
  maxAgeSeconds: number,
  request: Pick<FastifyRequest, 'protocol' | 'headers'>,
): string {
  const attributes = [
    `${SESSION_COOKIE}=${value}`,
    'Path=/',
    `Max-Age=${maxAgeSeconds}`,
    'HttpOnly',
    'SameSite=Strict',
    ...(isSecure(request) ? ['Secure'] : []),
  ];
  return attributes.join('; ');
}

/** Whether the browser speaks https, with us or with a proxy in front of us. */
function isSecure({ protocol, headers }: Pick<FastifyRequest, 'protocol' | 'headers'>): boolean {
  const [forwarded] = String(headers['x-forwarded-proto'] ?? '').split(',');
  return protocol === 'https' || forwarded?.trim().toLowerCase() === 'https';
}

/**
 * Cookies come along whoever made the browser send a request, so it has to come from a page of this very server.
 * Browsers say so in `Sec-Fetch-Site`, and where they do not (no https), in `Origin`. Of requests that only read, they
 * may say neither; those of other sites then have no cookie either, as it is `SameSite=Strict`.
 * @throws ApiError 403
 */
export function refuseOtherPages({ headers, method }: Pick<FastifyRequest, 'headers' | 'method'>): void {
  const site = headers['sec-fetch-site'];
  const isReading = method === 'GET' || method === 'HEAD';
  const isOwn =
    site !== undefined
      ? site === 'same-origin'
      : (isReading && headers.origin === undefined) || isOwnOrigin(headers);
  if (isOwn) return;
  throw new ApiError(
    403,
    'FORBIDDEN',
    'with a log-in this is only taken from a page of this server, not from another page',
  );
}

function isOwnOrigin({ origin, host }: IncomingHttpHeaders): boolean {
  return origin !== undefined && URL.canParse(origin) && new URL(origin).host === host;
}
