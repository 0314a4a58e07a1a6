import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { ApiToken } from '../../config/config.ts';
import { ROLES } from '../../domain/roles.ts';
import { parseJson } from '../../util/json.ts';
import type { Guard } from '../access.ts';
import type { Identity } from '../roles.ts';

/** Somebody who is logged in to the dashboard, as a value for a cookie. */
export interface DashboardSessions {
  /** A new session for who knows a token of the API; `undefined` when the token is not one. */
  open(token: string): Promise<string | undefined>;
  /** Whose session a value is; `undefined` when it has expired, was ended or has lost its token. */
  find(value: string): Identity | undefined;
  /** Ends a session before its time: from then on its value is worth nothing here. */
  end(value: string): void;
}

/** What sessions are made of. */
export interface SessionOptions {
  /** `API_TOKEN` */
  readonly tokens: readonly ApiToken[];
  readonly guard: Pick<Guard, 'identify'>;
  /** Unix milliseconds; for tests. */
  readonly now?: () => number;
}

/** How long a login lasts, in seconds: a working day. */
export const SESSION_SECONDS = 8 * 60 * 60;

/** Sessions that were ended before their time and are remembered; they are forgotten once they have expired. */
export const MAX_ENDED = 10_000;

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
 * in it, and when the token is no longer one, neither is the session. Only sessions that were ended before their time
 * are remembered, by the process in which they were ended.
 *
 * Sessions of JSON web tokens end with the token; their key is made of all static tokens, or for this process alone
 * where there are none.
 */
export function createDashboardSessions({
  tokens,
  guard,
  now = Date.now,
}: SessionOptions): DashboardSessions {
  const derive = (secret: string | Buffer) =>
    Buffer.from(hkdfSync('sha256', secret, '', KEY_PURPOSE, KEY_BYTES));
  const shared = tokens.length > 0 ? tokens.map(({ token }) => token).join(',') : randomBytes(KEY_BYTES);
  const holderKey: SigningKey = { key: derive(shared) };
  const tokenKeys: readonly SigningKey[] = tokens.map(({ name, role, token }) => ({
    key: derive(`token ${token}`),
    identity: { name, roles: [role], token },
  }));
  /** When the sessions that were ended expire, by their ids. */
  const ended = new Map<string, number>();
  /** Where too many were ended to remember each: all that were opened before are. Unix seconds. */
  let endedBefore = Number.NEGATIVE_INFINITY;

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
        expiresAt: Math.min(issuedAt + SESSION_SECONDS, expiresAt),
        ...(!own && { holder: { name, roles: [...roles] } }),
      };
      const encoded = Buffer.from(JSON.stringify(payload)).toString('base64url');
      return `${VERSION}.${encoded}.${signature((own ?? holderKey).key, encoded).toString('base64url')}`;
    },
    find(value) {
      const found = read(value);
      if (!found) return undefined;
      const { id, issuedAt, expiresAt } = found.payload;
      const isOver = expiresAt * 1000 <= now() || issuedAt <= endedBefore || ended.has(id);
      return isOver ? undefined : found.identity;
    },
    end(value) {
      const found = read(value);
      if (!found) return;
      ended.set(found.payload.id, found.payload.expiresAt);
      if (ended.size <= MAX_ENDED) return;
      for (const [id, expiresAt] of ended) if (expiresAt * 1000 <= now()) ended.delete(id);
      if (ended.size <= MAX_ENDED) return;
      ended.clear();
      endedBefore = Math.floor(now() / 1000);
    },
  };
}

function signature(key: Buffer, encoded: string): Buffer {
  return createHmac('sha256', key).update(`${VERSION}.${encoded}`).digest();
}
