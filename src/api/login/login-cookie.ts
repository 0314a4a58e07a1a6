import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ApiToken } from '../../config/config.ts';
import { ROLES } from '../../domain/requests.ts';
import { parseJson } from '../../util/json.ts';
import type { Guard } from '../access.ts';
import { ApiError } from '../problem.ts';
import type { Identity } from '../roles.ts';

/** The cookies of log-ins. */
export interface LoginCookies {
  /** The value of a new cookie for the holder of an API token; `undefined` when the token is not valid. */
  issue(token: string): Promise<string | undefined>;
  /** Who logged in with a cookie; `undefined` when the log-in has expired or ended, or its token is no longer valid. */
  find(value: string): Promise<Identity | undefined>;
  /** Ends a log-in early: every process of this queue refuses its cookie from then on. */
  end(value: string): Promise<void>;
}

/** The record of log-ins that ended early. */
export interface EndedLogins {
  /** @param milliseconds until the log-in expires by itself. */
  endLogin(id: string, milliseconds: number): Promise<void>;
  isLoginEnded(id: string): Promise<boolean>;
}

/** What cookies of log-ins are made of. */
export interface LoginCookieOptions {
  /** `API_TOKEN` */
  readonly tokens: readonly ApiToken[];
  readonly guard: Pick<Guard, 'identify'>;
  /** Shared by all processes, and outlives them. */
  readonly ended: EndedLogins;
  /** Unix milliseconds; for tests. */
  readonly now?: () => number;
}

/** How long a log-in lasts, in seconds: a working day. */
export const LOGIN_SECONDS = 8 * 60 * 60;

const KEY_BYTES = 32;
/** Part of the key: another text would end every log-in. */
const KEY_PURPOSE = 'voicemail-archiver dashboard session';
const VERSION = 's2';

/** What the value of a cookie says, besides its signature. */
const Payload = z.strictObject({
  id: z.string().min(1).max(64),
  /** Unix seconds. */
  issuedAt: z.int(),
  expiresAt: z.int(),
  /** Who logged in, where no token of `API_TOKEN` says so. */
  holder: z.strictObject({ name: z.string().max(64), roles: z.array(z.enum(ROLES)).max(16) }).optional(),
});
type Payload = z.infer<typeof Payload>;

interface CookieKey {
  readonly key: Buffer;
  /** Set for the key of a static token. The key without it signs cookies that name their holder. */
  readonly identity?: Identity & { readonly token: string };
}

/**
 * The server does not store log-ins. The value of a cookie is signed with a key that is derived from the API token. So a
 * log-in survives restarts, and every process that has the token accepts it. The cookie holds neither the token nor a
 * JSON web token, and it is invalid as soon as the token is. The queue stores only the log-ins that ended early, until
 * they would have expired.
 *
 * The log-in of a JSON web token ends with the token. Its key is derived from all static tokens; where there are none,
 * the key is random and belongs to this process.
 */
export function createLoginCookies({
  tokens,
  guard,
  ended,
  now = Date.now,
}: LoginCookieOptions): LoginCookies {
  const derive = (secret: string | Buffer) =>
    Buffer.from(hkdfSync('sha256', secret, '', KEY_PURPOSE, KEY_BYTES));
  const shared = tokens.length > 0 ? tokens.map(({ token }) => token).join(',') : randomBytes(KEY_BYTES);
  const holderKey: CookieKey = { key: derive(shared) };
  const tokenKeys: readonly CookieKey[] = tokens.map(({ name, role, token }) => ({
    key: derive(`token ${token}`),
    identity: { name, roles: [role], token },
  }));

  const read = (value: string): { payload: Payload; identity: Identity } | undefined => {
    const [version, encoded = '', signed = '', ...rest] = value.split('.');
    if (version !== VERSION || rest.length > 0) return undefined;
    const given = Buffer.from(signed, 'base64url');
    const signer = [holderKey, ...tokenKeys].find(({ key }) => {
      const right = signature(key, encoded);
      return given.length === right.length && timingSafeEqual(given, right);
    });
    if (!signer) return undefined;
    const payload = Payload.safeParse(parseJson(Buffer.from(encoded, 'base64url').toString()));
    const identity = signer.identity ?? payload.data?.holder;
    if (!payload.success || !identity) return undefined;
    return { payload: payload.data, identity: { name: identity.name, roles: identity.roles } };
  };

  return {
    async issue(token) {
      const identity = await guard.identify(token);
      if (!identity) return undefined;
      const issuedAt = Math.floor(now() / 1000);
      const own = tokenKeys.find((one) => one.identity?.token === token);
      const { name, roles, expiresAt = Number.POSITIVE_INFINITY } = identity;
      const payload: Payload = {
        id: randomBytes(16).toString('base64url'),
        issuedAt,
        // The expiry of a JSON web token may have fractions of seconds.
        expiresAt: Math.floor(Math.min(issuedAt + LOGIN_SECONDS, expiresAt)),
        ...(!own && { holder: { name, roles: [...roles] } }),
      };
      const encoded = Buffer.from(JSON.stringify(payload)).toString('base64url');
      return `${VERSION}.${encoded}.${signature((own ?? holderKey).key, encoded).toString('base64url')}`;
    },
    async find(value) {
      const found = read(value);
      if (!found || found.payload.expiresAt * 1000 <= now()) return undefined;
      if (await ended.isLoginEnded(found.payload.id)) return undefined;
      return { ...found.identity, expiresAt: found.payload.expiresAt };
    },
    async end(value) {
      const found = read(value);
      const left = found === undefined ? 0 : found.payload.expiresAt * 1000 - now();
      if (found && left > 0) await ended.endLogin(found.payload.id, left);
    },
  };
}

function signature(key: Buffer, encoded: string): Buffer {
  return createHmac('sha256', key).update(`${VERSION}.${encoded}`).digest();
}

/** The name of the cookie. */
export const LOGIN_COOKIE = 'archiver_session';

/** What decides on a request that has a cookie. */
export interface CookieAccess {
  readonly guard: Guard;
  /** Without them nobody can log in. */
  readonly logins?: LoginCookies | undefined;
}

/**
 * Who sent a request to the API, by its header `Authorization` or by the cookie of a log-in. A cookie counts only where
 * the request comes from a page of this server.
 * @throws ApiError as the guard does, and 403 for a cookie in a request of another page.
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

/** Who logged in, by the cookie of a request. */
export async function loggedIn(
  headers: IncomingHttpHeaders,
  logins: LoginCookies,
): Promise<Identity | undefined> {
  for (const value of cookiesOf(headers)) {
    const identity = await logins.find(value);
    if (identity) return { ...identity, isLoggedIn: true };
  }
  return undefined;
}

/** The values of the cookie. A browser sends one for each path that the cookie was set on. */
export function cookiesOf({ cookie: header = '' }: IncomingHttpHeaders): string[] {
  return header.split(';').flatMap((pair) => {
    const [name, value = ''] = pair.trim().split(/=(.*)/s);
    return name === LOGIN_COOKIE ? [value] : [];
  });
}

/** The header that sets the cookie in a browser, or removes it with the age 0. */
export function setCookie(
  value: string,
  maxAgeSeconds: number,
  request: Pick<FastifyRequest, 'protocol' | 'headers'>,
): string {
  const attributes = [
    `${LOGIN_COOKIE}=${value}`,
    'Path=/',
    `Max-Age=${maxAgeSeconds}`,
    'HttpOnly',
    'SameSite=Strict',
    ...(isSecure(request) ? ['Secure'] : []),
  ];
  return attributes.join('; ');
}

/** Whether the browser uses https, to this server or to a proxy in front of it. */
function isSecure({ protocol, headers }: Pick<FastifyRequest, 'protocol' | 'headers'>): boolean {
  const [forwarded] = String(headers['x-forwarded-proto'] ?? '').split(',');
  return protocol === 'https' || forwarded?.trim().toLowerCase() === 'https';
}

/**
 * A browser sends cookies whichever page made the request, so the request must come from a page of this server. Browsers
 * say so in `Sec-Fetch-Site`, or in `Origin` without https. A request that only reads may have neither header; then a
 * request of another site has no cookie, because the cookie is `SameSite=Strict`.
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
