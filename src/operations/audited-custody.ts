import type { AuditedBy } from './audited-operations.ts';
import type { CustodyOperations } from './custody.ts';

/** The same custody, each change of which is noted in the audit log. */
export function auditedCustody(
  custody: CustodyOperations,
  { auditLog, actor }: AuditedBy,
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
