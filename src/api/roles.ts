/** Who may do what: the roles of tokens, what each of them permits, and what each route needs. */

import type { Role } from '../domain/requests.ts';

/** What a request does; `any` needs right credentials and no more. */
export type Permission = 'any' | 'read' | 'listen' | 'enqueue' | 'operate' | 'erase';

/**
 * - `read`: states, counts, events
 * - `listen`: recordings, transcripts and manifests too
 * - `enqueue`: queue sessions, and nothing else, for programs that only queue sessions
 * - `operate`: all of these, and retry, cancel, pause, hold, backfills and schedules
 * - `erase`: everything
 */
const PERMISSIONS: Readonly<Record<Role, readonly Permission[]>> = {
  read: ['any', 'read'],
  listen: ['any', 'read', 'listen'],
  enqueue: ['any', 'enqueue'],
  operate: ['any', 'read', 'listen', 'enqueue', 'operate'],
  erase: ['any', 'read', 'listen', 'enqueue', 'operate', 'erase'],
};

/** What each route under `/v1` needs. A route that is not here is not served: see {@link permissionOf}. */
export const ROUTE_PERMISSIONS: Readonly<Record<string, Permission>> = {
  'GET /v1/whoami': 'any',
  'GET /v1/error-codes': 'any',
  'GET /v1/stats': 'read',
  'GET /v1/events': 'read',
  'GET /v1/completeness': 'read',
  'GET /v1/completeness/:id': 'read',
  'POST /v1/completeness': 'operate',
  'GET /v1/sessions': 'read',
  'GET /v1/sessions/:id': 'read',
  'GET /v1/sessions/:id/recordings/:n': 'listen',
  'GET /v1/sessions/:id/transcript': 'listen',
  'GET /v1/sessions/:id/manifest': 'listen',
  'POST /v1/sessions': 'enqueue',
  'POST /v1/sessions/:id/retry': 'operate',
  'POST /v1/sessions/retry': 'operate',
  'POST /v1/sessions/cancel': 'operate',
  'POST /v1/retries': 'operate',
  'DELETE /v1/sessions/:id': 'operate',
  'POST /v1/cancellations': 'operate',
  'PUT /v1/pause': 'operate',
  'DELETE /v1/pause': 'operate',
  'GET /v1/sessions/:id/erasure': 'read',
  'GET /v1/sessions/:id/hold': 'read',
  'PUT /v1/sessions/:id/hold': 'operate',
  'DELETE /v1/sessions/:id/hold': 'operate',
  'GET /v1/holds': 'read',
  'POST /v1/sessions/:id/erase': 'erase',
  'GET /v1/backfills': 'read',
  'GET /v1/backfills/:id': 'read',
  'POST /v1/backfills': 'operate',
  'DELETE /v1/backfills/:id': 'operate',
  'GET /v1/schedules': 'read',
  'PUT /v1/schedules/:name': 'operate',
  'DELETE /v1/schedules/:name': 'operate',
};

/** A person or program with valid credentials. */
export interface Identity {
  /** For logs and the audit log: the token's name, or the JWT's subject. No secret. */
  readonly name: string;
  /** One, or for JSON web tokens several, whose permissions add up. */
  readonly roles: readonly Role[];
  /** When the credentials expire (unix seconds), where they do. */
  readonly expiresAt?: number;
  /** It is a command of this process's own user, which found it by its `owner.json`. */
  readonly isCommand?: true;
  /** By the cookie that a log-in gives to a browser. */
  readonly isLoggedIn?: true;
}

/** Whether an identity has a permission. */
export function permits({ roles }: Identity, permission: Permission): boolean {
  return roles.some((role) => PERMISSIONS[role].includes(permission));
}

/**
 * What a route needs.
 * @param method as in the request; a HEAD needs what a GET does.
 * @param route as Fastify has it: `/v1/sessions/:id`.
 * @throws for a route without a permission.
 */
export function permissionOf(method: string, route: string): Permission {
  const permission = ROUTE_PERMISSIONS[`${method === 'HEAD' ? 'GET' : method} ${route}`];
  if (permission === undefined) throw new Error(`no role is defined for ${method} ${route}: see roles.ts`);
  return permission;
}
