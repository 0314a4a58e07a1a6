import {
  type AuditLog,
  type AuditLogAction,
  type AuditLogActor,
  namedSessions,
} from '../domain/audit-log.ts';
import type { SessionRef } from '../domain/session.ts';
import type { CustodyOperations } from './custody.ts';
import type { Operations } from './operations.ts';

/** The audit log to write to, and who acts. */
interface AuditLogTarget {
  readonly auditLog: AuditLog;
  readonly actor: AuditLogActor;
}

/** The same operations; each records its changes in the audit log. */
export function operationsWithAuditLog(
  operations: Operations,
  { auditLog, actor }: AuditLogTarget,
): Operations {
  const record = (action: AuditLogAction, about: { session?: SessionRef; details?: object } = {}): void => {
    const { session, details } = about;
    auditLog.record({
      actor,
      action,
      ...(session && { session: { botId: session.botId, sessionId: session.sessionId } }),
      ...(details && { details: { ...details } }),
    });
  };
  const by = actor.name;
  // Each operation is listed by name, so that a new one is not forgotten here.
  return {
    async enqueue(requests) {
      const results = await operations.enqueue(requests.map((request) => ({ by, ...request })));
      const forced = requests.filter(({ force }) => force);
      for (const [botId, some] of Map.groupBy(forced, (request) => request.botId)) {
        const named = namedSessions(some.map(({ sessionId }) => sessionId));
        record('enqueue.force', { details: { botId, ...named } });
      }
      return results;
    },
    view: (session) => operations.view(session),
    list: (query) => operations.list(query),
    async retry(session) {
      const outcome = await operations.retry(session, by);
      if (outcome === 'requeued') record('retry', { session });
      return outcome;
    },
    async retryAll(code) {
      const requeued = await operations.retryAll(code, by);
      record('retry', { details: { sessions: requeued, ...(code && { code }) } });
      return requeued;
    },
    async cancel(session) {
      const outcome = await operations.cancel(session);
      if (outcome === 'cancelled') record('cancel', { session });
      return outcome;
    },
    async cancelAll(query) {
      const cancelled = await operations.cancelAll(query);
      const { dryRun, ...which } = query;
      if (!dryRun) record('cancel', { details: { sessions: cancelled, ...which } });
      return cancelled;
    },
    async pause() {
      await operations.pause();
      record('pause');
    },
    async resume() {
      await operations.resume();
      record('resume');
    },
    stats: () => operations.stats(),
  };
}

/** The same custody operations; each records its changes in the audit log. */
export function custodyWithAuditLog(
  custody: CustodyOperations,
  { auditLog, actor }: AuditLogTarget,
): CustodyOperations {
  return {
    async erase(session, options) {
      const result = await custody.erase(session, options);
      if (result.outcome === 'erased') {
        const { objects, versions } = result;
        const reason = options?.reason;
        const details = { objects, versions, ...(reason !== undefined && { reason }) };
        auditLog.record({ actor, action: 'erase', session, details });
      }
      return result;
    },
    erasure: (session) => custody.erasure(session),
    async setHold(session, reason) {
      const result = await custody.setHold(session, reason, actor.name);
      if (result.outcome !== 'erased') {
        const details = { ...(reason !== undefined && { reason }) };
        auditLog.record({ actor, action: 'hold.set', session, details });
      }
      return result;
    },
    async releaseHold(session) {
      const result = await custody.releaseHold(session, actor.name);
      if (result.outcome === 'released') auditLog.record({ actor, action: 'hold.release', session });
      return result;
    },
    hold: (session) => custody.hold(session),
    holds: (botId) => custody.holds(botId),
  };
}
