import { createHmac } from 'node:crypto';

/**
 * The known facts of a session's call, from sources that need no request for each session: Kore's listings, or a
 * webhook. Personal data: it is written into manifests, and never logged.
 */
export interface CallMetadata {
  /** The caller's number. */
  readonly from?: string;
  /** The number that was called. */
  readonly to?: string;
  readonly queue?: string;
  readonly direction?: string;
  /** ISO 8601 in UTC. */
  readonly startedAt?: string;
  readonly endedAt?: string;
  readonly tags?: readonly string[];
  /** Members of a webhook's body that `WEBHOOK_META` names, by the last part of their pointers. */
  readonly meta?: Readonly<Record<string, unknown>>;
}

/** What is kept of calls: nothing, all, or all with the numbers hashed. */
export const CALL_METADATA_MODES = ['on', 'hashed', 'off'] as const;
export type CallMetadataMode = (typeof CALL_METADATA_MODES)[number];

/**
 * A function that makes of a call what is kept of it. Hashed are the numbers, and all texts of `meta` that look like
 * one: with a key, as all numbers there are can be tried out in minutes.
 *
 * @param key of the hashes (HMAC-SHA256): the same number, however it is written, has the same hash for as long as the
 * key is the same.
 */
export function createCallFilter(
  mode: CallMetadataMode,
  key: string,
): (call: CallMetadata | undefined) => CallMetadata | undefined {
  if (mode === 'off') return () => undefined;
  if (mode === 'on') return (call) => call;
  const hashed = (number: string) =>
    number.startsWith(HASH_MARK)
      ? number
      : `${HASH_MARK}${createHmac('sha256', key).update(plainNumber(number)).digest('hex')}`;
  const withoutNumbers = (value: unknown): unknown => {
    if (typeof value === 'number') return NUMBER.test(String(value)) ? hashed(String(value)) : value;
    if (typeof value === 'string') return NUMBER.test(value) ? hashed(value) : value;
    if (Array.isArray(value)) return value.map(withoutNumbers);
    if (typeof value !== 'object' || value === null || JSON.isRawJSON(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, withoutNumbers(inner)]));
  };
  return (call) => {
    if (!call) return undefined;
    const { from, to, meta } = call;
    return {
      ...call,
      ...(from !== undefined && { from: hashed(from) }),
      ...(to !== undefined && { to: hashed(to) }),
      ...(meta && { meta: withoutNumbers(meta) as Readonly<Record<string, unknown>> }),
    };
  };
}

const HASH_MARK = 'hmac-sha256:';
/** Seven digits or more, and nothing but what numbers are written with; also as an address (`tel:`, `sip:`). */
const NUMBER = /^\s*(?:(?:tel|sips?):)?\+?(?:[\s()./-]*\d){7,20}[\s)]*(?:@[^\s]{1,200})?$/i;

/** Whether a text looks like the number of a telephone. */
export function isTelephoneNumber(text: string): boolean {
  return NUMBER.test(text);
}

/** A number without what it is decorated with. */
function plainNumber(number: string): string {
  return number
    .trim()
    .replace(/^(?:tel|sips?):/i, '')
    .replace(/@.*$/, '')
    .replace(/[\s()./-]/g, '');
}

/** The most that is kept of a call, as JSON; more is left out, member by member. */
const MAX_CALL_BYTES = 4_096;

/** Names of members that hold secrets, wherever they are. */
const SECRET_NAME = /auth|token|secret|passw|credential|api[-_]?key|signature|cookie|jwt|bearer/i;

/** Whether a member may hold a secret, by its name. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name);
}

/** What of a call is kept, within bounds; `undefined` where nothing is. */
export function boundedCall(call: CallMetadata): CallMetadata | undefined {
  // What identifies a call is kept first.
  const order = ['from', 'to', 'startedAt', 'endedAt', 'direction', 'queue', 'tags', 'meta'] as const;
  let kept: CallMetadata = {};
  for (const name of order) {
    if (call[name] === undefined) continue;
    const more = { ...kept, [name]: call[name] };
    if (Buffer.byteLength(JSON.stringify(more)) <= MAX_CALL_BYTES) kept = more;
  }
  return Object.keys(kept).length === 0 ? undefined : kept;
}
