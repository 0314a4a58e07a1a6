/**
 * What is known of the call that a session was, where somebody told it without being asked for each session: Kore's
 * listings, or a webhook. Personal data: it is written into manifests, and never logged.
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
