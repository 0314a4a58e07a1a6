import { type AuditActor, type AuditedAction, type AuditLog, namedSessions } from '../domain/audit-log.ts';
import type { SessionRef } from '../domain/session.ts';
import type { Operations } from './operations.ts';

/** For whom operations are audited. */
export interface AuditedBy {
  readonly auditLog: AuditLog;
  readonly actor: AuditActor;
}

/** The same operations, each of which notes in the audit log what somebody has changed by it. */
export function auditedOperations(operations: Operations, { auditLog, actor }: AuditedBy): Operations {
  const record = (action: AuditedAction, about: { session?: SessionRef; details?: object } = {}): void => {
    const { session, details } = about;
    auditLog.record({
      actor,
      action,
      ...(session && { session: { botId: session.botId, sessionId: session.sessionId } }),
      ...(details && { details: { ...details } }),
    });
  };
  const by = actor.name;
  // Each by its name: whoever adds an operation has to decide.
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
