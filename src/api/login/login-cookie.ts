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

/** Somebody who is logged in, as a value for a cookie. */
export interface LoginSessions {
  /** A new session for who knows a token of the API; `undefined` when the token is not one. */
  open(token: string): Promise<string | undefined>;
  /** Whose session a value is; `undefined` when it has expired, was ended or has lost its token. */
  find(value: string): Promise<Identity | undefined>;
  /** Ends a session before its time: from then on its value is worth nothing to any process of this queue. */
  end(value: string): Promise<void>;
}

/** Where it is kept which sessions were ended before their time. */
export interface EndedLogins {
  /** @param milliseconds until the session expires by itself. */
  endLogin(id: string, milliseconds: number): Promise<void>;
  isLoginEnded(id: string): Promise<boolean>;
}

/** What sessions are made of. */
export interface SessionOptions {
  /** `API_TOKEN` */
  readonly tokens: readonly ApiToken[];
  readonly guard: Pick<Guard, 'identify'>;
  /** Shared by all processes, and outlives them. */
  readonly ended: EndedLogins;
  /** Unix milliseconds; for tests. */
  readonly now?: () => number;
}

/** How long a login lasts, in seconds: a working day. */
export const SESSION_SECONDS = 8 * 60 * 60;

const KEY_BYTES = 32;
const KEY_PURPOSE = 'voicemail-archiver dashboard session';
const VERSION = 's2';

/** What a value tells, besides its signature. */
const Payload = z.strictObject({
  id: z.string().min(1).max(64),
  /** Unix seconds. */
  issuedAt: z.int(),
  expiresAt: z.int(),
  /** Who it is, where no token of `API_TOKEN` tells it. */
  holder: z.strictObject({ name: z.string().max(64), roles: z.array(z.enum(ROLES)).max(16) }).optional(),
});
type Payload = z.infer<typeof Payload>;

interface SigningKey {
  readonly key: Buffer;
  /** Whose sessions it signs: those of a static token; without it, those that name their holder. */
  readonly identity?: Identity & { readonly token: string };
}

/**
 * Sessions that the server does not keep: a value is signed with a key made of the token it was opened with. So it
 * outlives restarts, every process that knows the token knows the session, neither a token nor a JSON web token is
 * in it, and when the token is no longer one, neither is the session. Only which sessions were ended before their time
 * is kept, beside the queue, until they would have expired.
 *
 * Sessions of JSON web tokens end with the token; their key is made of all static tokens, or for this process alone
 * where there are none.
 */
export function createLoginSessions({ tokens, guard, ended, now = Date.now }: SessionOptions): LoginSessions {
  const derive = (secret: string | Buffer) =>
    Buffer.from(hkdfSync('sha256', secret, '', KEY_PURPOSE, KEY_BYTES));
  const shared = tokens.length > 0 ? tokens.map(({ token }) => token).join(',') : randomBytes(KEY_BYTES);
  const holderKey: SigningKey = { key: derive(shared) };
  const tokenKeys: readonly SigningKey[] = tokens.map(({ name, role, token }) => ({
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
    async open(token) {
      const identity = await guard.identify(token);
      if (!identity) return undefined;
      const issuedAt = Math.floor(now() / 1000);
      const own = tokenKeys.find((one) => one.identity?.token === token);
      const { name, roles, expiresAt = Number.POSITIVE_INFINITY } = identity;
      const payload: Payload = {
        id: randomBytes(16).toString('base64url'),
        issuedAt,
        // A JSON web token may tell fractions of seconds.
        expiresAt: Math.floor(Math.min(issuedAt + SESSION_SECONDS, expiresAt)),
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
