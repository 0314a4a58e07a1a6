import type { FastifyRequest } from 'fastify';
import { type AuditEntry, type AuditedAction, type AuditLog, namedSessions } from '../domain/audit-log.ts';
import { isValidId } from '../domain/session.ts';
import { osUser } from '../util/process.ts';
import type { Identity } from './roles.ts';
import type { ZodServer } from './validation.ts';

/** A request that is in the audit log if it was granted. */
interface AuditedRoute {
  readonly action: AuditedAction;
  /** What of it is noted; `undefined` where such a request changes nothing. */
  readonly details?: (request: FastifyRequest) => Readonly<Record<string, unknown>> | undefined;
}

type Fields = Readonly<Record<string, unknown>>;

const bodyOf = ({ body }: FastifyRequest): Fields =>
  typeof body === 'object' && body !== null ? { ...body } : {};
const paramsOf = ({ params }: FastifyRequest): Fields => ({ ...(params as object) });

/** What of the body is noted, unless it only asks what would happen. */
const unlessDryRun =
  (...names: readonly string[]): NonNullable<AuditedRoute['details']> =>
  (request) => {
    const body = bodyOf(request);
    if (body.dryRun === true) return undefined;
    return Object.fromEntries(
      names.filter((name) => body[name] !== undefined).map((name) => [name, body[name]]),
    );
  };

/** Routes under `/v1` whose requests are noted: what changes something by hand, and what hands out what is archived. */
export const AUDITED_ROUTES: Readonly<Record<string, AuditedRoute>> = {
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

/** A part that is asked for; players ask for many. */
function rangeOf({ headers: { range } }: FastifyRequest): Fields {
  return range !== undefined && /^bytes=[\d\s,-]{1,64}$/.test(range) ? { range } : {};
}

/** What the audit of requests works with. */
export interface AuditOptions {
  /** Without it nothing is noted. */
  readonly auditLog?: AuditLog | undefined;
  /** `KORE_BOT_ID` */
  readonly defaultBotId: string | undefined;
}

/** Notes requests of {@link AUDITED_ROUTES} that are granted, at the moment before they are answered. */
export function auditRequests(app: ZodServer, { auditLog, defaultBotId }: AuditOptions): void {
  if (!auditLog) return;
  const listens = createListens();
  app.addHook('onSend', async (request, { statusCode }) => {
    const route = AUDITED_ROUTES[`${request.method} ${request.routeOptions.url ?? ''}`];
    // 304 hands out nothing.
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
): Pick<AuditEntry, 'actor' | 'requestId' | 'address'> {
  // The commands of this process's own user.
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

function sessionOf(request: FastifyRequest, defaultBotId: string | undefined): Pick<AuditEntry, 'session'> {
  const { id } = paramsOf(request);
  const { botId = defaultBotId } = { ...(request.query as { botId?: string }) };
  if (typeof id !== 'string' || botId === undefined || !isValidId(id)) return {};
  return { session: { botId, sessionId: id } };
}

/** A listen ends when nothing of the recording has been asked for during so long (milliseconds). */
const LISTEN_PAUSE_MS = 10 * 60_000;
/** Listens that are remembered; the one that was heard of least recently is forgotten first. */
const MAX_LISTENS = 10_000;

/** Tells the first request of a listen from those that follow. */
export interface Listens {
  /**
   * Whether a request asks for a part of what the same person has been reading a part of: players ask for many parts,
   * and again whenever somebody seeks. A whole object is a download of its own.
   */
  goesOn(request: Pick<FastifyRequest, 'identity' | 'ip' | 'url' | 'headers'>): boolean;
}

/** @param now milliseconds on a clock that never goes back; for tests. */
function createListens(now: () => number = () => performance.now()): Listens {
  /** When each was last heard of, the least recent first. */
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
