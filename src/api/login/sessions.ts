import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { ApiToken } from '../../config/config.ts';
import { ROLES } from '../../domain/roles.ts';
import { parseJson } from '../../util/json.ts';
import type { Guard } from '../access.ts';
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
