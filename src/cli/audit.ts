import type { BackfillOperations } from '../backfills/operations.ts';
import { auditedCustody, auditedOperations } from '../operations/audited.ts';
import type { Runtime } from '../runtime.ts';
import { osUser } from '../util/process.ts';

/** What a command works with that has opened the queue itself: what it changes is noted in the audit log. */
export function auditedRuntime({
  operations,
  backfills,
  custody,
  auditLog,
}: Pick<Runtime, 'operations' | 'backfills' | 'custody' | 'auditLog'>): Pick<
  Runtime,
  'operations' | 'backfills' | 'custody'
> {
  if (!auditLog) return { operations, backfills, custody };
  // Whoever can open the queue may do everything.
  const actor = { name: osUser(), role: 'erase', via: 'cli' } as const;
  const audited: BackfillOperations = {
    ...backfills,
    async start(order) {
      const view = await backfills.start(order);
      if (!order.dryRun) auditLog.record({ actor, action: 'backfill', details: { ...order } });
      return view;
    },
    async cancel(id) {
      const outcome = await backfills.cancel(id);
      if (outcome === 'cancelled') auditLog.record({ actor, action: 'backfill.cancel', details: { id } });
      return outcome;
    },
    async setSchedule(schedule) {
      await backfills.setSchedule(schedule);
      auditLog.record({ actor, action: 'schedule.set', details: { ...schedule } });
    },
    async removeSchedule(name) {
      const wasThere = await backfills.removeSchedule(name);
      if (wasThere) auditLog.record({ actor, action: 'schedule.remove', details: { name } });
      return wasThere;
    },
  };
  return {
    operations: auditedOperations(operations, { auditLog, actor }),
    backfills: audited,
    custody: auditedCustody(custody, { auditLog, actor }),
  };
}
