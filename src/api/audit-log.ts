import type { FastifyRequest } from 'fastify';
import {
  type AuditLog,
  type AuditLogAction,
  type AuditLogEntry,
  namedSessions,
} from '../domain/audit-log.ts';
import { isValidId } from '../domain/session.ts';
import { osUser } from '../util/process.ts';
import type { Identity } from './roles.ts';
import type { ZodServer } from './validation.ts';

/** A kind of request that the audit log records where it was granted. */
interface AuditLogRoute {
  readonly action: AuditLogAction;
  /** The details to record; `undefined` where such a request changes nothing. */
  readonly details?: (request: FastifyRequest) => Readonly<Record<string, unknown>> | undefined;
}

type Fields = Readonly<Record<string, unknown>>;

const bodyOf = ({ body }: FastifyRequest): Fields =>
  typeof body === 'object' && body !== null ? { ...body } : {};
const paramsOf = ({ params }: FastifyRequest): Fields => ({ ...(params as object) });

/** Records members of the body, unless the request is a dry run. */
const unlessDryRun =
  (...names: readonly string[]): NonNullable<AuditLogRoute['details']> =>
  (request) => {
    const body = bodyOf(request);
    if (body.dryRun === true) return undefined;
    return Object.fromEntries(
      names.filter((name) => body[name] !== undefined).map((name) => [name, body[name]]),
    );
  };

/** Routes under `/v1` whose requests are recorded: changes by hand, and downloads of archived objects. */
export const AUDIT_LOG_ROUTES: Readonly<Record<string, AuditLogRoute>> = {
  'POST /v1/sessions': {
    action: 'enqueue.force',
    details(request) {
      const { force, botId, sessionIds } = bodyOf(request);
      if (force !== true || !Array.isArray(sessionIds)) return undefined;
      return { ...(botId !== undefined && { botId }), ...namedSessions(sessionIds.map(String)) };
    },
  },
  'POST /v1/sessions/:id/retry': { action: 'retry' },
  'POST /v1/retries': { action: 'retry', details: unlessDryRun('code') },
  'POST /v1/sessions/retry': { action: 'retry', details: unlessDryRun('code') },
  'DELETE /v1/sessions/:id': { action: 'cancel' },
  'POST /v1/sessions/cancel': { action: 'cancel', details: unlessDryRun('code', 'backfills') },
  'POST /v1/cancellations': { action: 'cancel', details: unlessDryRun('code', 'backfills') },
  'PUT /v1/pause': { action: 'pause' },
  'DELETE /v1/pause': { action: 'resume' },
  'PUT /v1/sessions/:id/hold': { action: 'hold.set', details: unlessDryRun('reason') },
  'DELETE /v1/sessions/:id/hold': { action: 'hold.release' },
  'POST /v1/sessions/:id/erase': { action: 'erase', details: unlessDryRun('reason') },
  'GET /v1/sessions/:id/recordings/:n': {
    action: 'download',
    details: (request) => ({ object: 'recording', n: paramsOf(request).n, ...rangeOf(request) }),
  },
  'GET /v1/sessions/:id/transcript': {
    action: 'download',
    details: (request) => ({ object: 'transcript', ...rangeOf(request) }),
  },
  'GET /v1/sessions/:id/manifest': {
    action: 'download',
    details: (request) => ({ object: 'manifest', ...rangeOf(request) }),
  },
  'POST /v1/backfills': {
    action: 'backfill',
    details: unlessDryRun('botId', 'from', 'to', 'source'),
  },
  'DELETE /v1/backfills/:id': { action: 'backfill.cancel', details: paramsOf },
  'POST /v1/completeness': {
    action: 'completeness',
    details: unlessDryRun('botId', 'from', 'to', 'source', 'write', 'reportOnly'),
  },
  'PUT /v1/schedules/:name': {
    action: 'schedule.set',
    details: (request) => ({ ...paramsOf(request), ...unlessDryRun('cron', 'lookback')(request) }),
  },
  'DELETE /v1/schedules/:name': { action: 'schedule.remove', details: paramsOf },
};

/** The requested byte range. Players request many. */
function rangeOf({ headers: { range } }: FastifyRequest): Fields {
  return range !== undefined && /^bytes=[\d\s,-]{1,64}$/.test(range) ? { range } : {};
}

/** What the hook of the audit log uses. */
export interface AuditLogHookOptions {
  /** Without it nothing is recorded. */
  readonly auditLog?: AuditLog | undefined;
  /** `KORE_BOT_ID` */
  readonly defaultBotId: string | undefined;
}

/** Records granted requests of {@link AUDIT_LOG_ROUTES}, right before the answer is sent. */
export function addAuditLogHook(app: ZodServer, { auditLog, defaultBotId }: AuditLogHookOptions): void {
  if (!auditLog) return;
  const listens = createListens();
  app.addHook('onSend', async (request, { statusCode }) => {
    const route = AUDIT_LOG_ROUTES[`${request.method} ${request.routeOptions.url ?? ''}`];
    // A 304 has no body.
    if (!route || statusCode >= 300) return;
    const details = route.details ? route.details(request) : {};
    if (!details) return;
    if (route.action === 'download' && listens.goesOn(request)) return;
    auditLog.record({
      ...entryOf(request, request.identity, 'api'),
      action: route.action,
      details,
      ...sessionOf(request, defaultBotId),
    });
  });
}

/** Who sent a request, and from where. */
export function entryOf(
  { id, ip }: Pick<FastifyRequest, 'id' | 'ip'>,
  identity: Identity | undefined,
  via: 'api' | 'dashboard',
): Pick<AuditLogEntry, 'actor' | 'requestId' | 'address'> {
  // A command of the user that this process runs as.
  const isCommand = identity?.isCommand === true;
  return {
    actor: {
      name: isCommand ? osUser() : (identity?.name ?? 'unknown'),
      role: identity?.roles.join(' ') ?? '',
      via: isCommand ? 'cli' : identity?.isLoggedIn ? 'dashboard' : via,
    },
    requestId: id,
    address: ip,
  };
}

function sessionOf(
  request: FastifyRequest,
  defaultBotId: string | undefined,
): Pick<AuditLogEntry, 'session'> {
  const { id } = paramsOf(request);
  const { botId = defaultBotId } = { ...(request.query as { botId?: string }) };
  if (typeof id !== 'string' || botId === undefined || !isValidId(id)) return {};
  return { session: { botId, sessionId: id } };
}

/** A listen ends when no part of the recording was requested for this long (milliseconds). */
const LISTEN_PAUSE_MS = 10 * 60_000;
/** Listens that are remembered; the least recent one is dropped first. */
const MAX_LISTENS = 10_000;

/** Distinguishes the first request of a listen from those that follow. */
export interface Listens {
  /**
   * Whether the same person requested a part of the same object shortly before. Players request many parts, and again
   * whenever somebody seeks. A request for the whole object is a download of its own.
   */
  goesOn(request: Pick<FastifyRequest, 'identity' | 'ip' | 'url' | 'headers'>): boolean;
}

/** @param now milliseconds on a clock that never goes back; for tests. */
function createListens(now: () => number = () => performance.now()): Listens {
  /** When each listen had its last request, the least recent first. */
  const lastAt = new Map<string, number>();
  return {
    goesOn({ identity, ip, url, headers }) {
      if (headers.range === undefined) return false;
      const key = JSON.stringify([identity?.name, identity?.roles, ip, url]);
      const before = lastAt.get(key);
      lastAt.delete(key);
      lastAt.set(key, now());
      if (lastAt.size > MAX_LISTENS) {
        for (const oldest of lastAt.keys()) {
          lastAt.delete(oldest);
          break;
        }
      }
      return before !== undefined && now() - before < LISTEN_PAUSE_MS;
    },
  };
}
