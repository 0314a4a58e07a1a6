import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import type { Guard } from '../access.ts';

/** Somebody who is logged in to the dashboard, as a value for a cookie. */
export interface DashboardSessions {
  /** A new session for who knows a token of the API; `undefined` when the token is not one. */
  open(token: string): Promise<string | undefined>;
  /** Whether a value is that of a session which has neither expired nor lost its token. */
  isValid(value: string): Promise<boolean>;
}

/** What sessions are made of. */
export interface SessionOptions {
  /** `API_TOKEN`, and whichever else is compared as it is. */
  readonly tokens: readonly string[];
  readonly guard: Pick<Guard, 'accepts'>;
  /** Unix milliseconds; for tests. */
  readonly now?: () => number;
}

/** How long a login lasts, in seconds: a working day. */
export const SESSION_SECONDS = 8 * 60 * 60;

const KEY_BYTES = 32;
const KEY_PURPOSE = 'voicemail-archiver dashboard session';
const SIGNED = 's1';
const WEB_TOKEN = 'jwt';

/**
 * Sessions without a memory: a value tells when it ends and is signed with a key made of the token it was opened
 * with. So it outlives restarts, every process that knows the token knows the session, the token itself is not in
 * it, and when the token is no longer one, neither is the session.
 *
 * A JSON web token expires by itself and is nobody's to keep, so it is the value of its session.
 */
export function createDashboardSessions({
  tokens,
  guard,
  now = Date.now,
}: SessionOptions): DashboardSessions {
  const keys = tokens.map((token) => ({
    token,
    key: Buffer.from(hkdfSync('sha256', token, '', KEY_PURPOSE, KEY_BYTES)),
  }));
  return {
    async open(token) {
      if (!(await guard.accepts(token))) return undefined;
      const own = keys.find((one) => one.token === token);
      if (!own) return `${WEB_TOKEN}.${token}`;
      const expires = Math.floor(now() / 1000) + SESSION_SECONDS;
      return `${SIGNED}.${expires}.${signature(own.key, expires).toString('base64url')}`;
    },
    async isValid(value) {
      if (value.startsWith(`${WEB_TOKEN}.`)) return guard.accepts(value.slice(WEB_TOKEN.length + 1));
      const [kind, expires = '', signed = '', ...rest] = value.split('.');
      if (kind !== SIGNED || rest.length > 0 || !/^\d{1,12}$/.test(expires)) return false;
      if (Number(expires) * 1000 <= now()) return false;
      const given = Buffer.from(signed, 'base64url');
      let isSigned = false;
      for (const { key } of keys) {
        const right = signature(key, Number(expires));
        isSigned = (given.length === right.length && timingSafeEqual(given, right)) || isSigned;
      }
      return isSigned;
    },
  };
}

function signature(key: Buffer, expires: number): Buffer {
  return createHmac('sha256', key).update(`${SIGNED}.${expires}`).digest();
}
