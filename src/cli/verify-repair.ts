import type { Finding } from '../audit/finding.ts';
import type { Operations } from '../operations/operations.ts';
import type { SessionRef } from '../session.ts';

/** What became of the sessions that are broken. */
export interface RepairCounts {
  readonly queued: number;
  /** They were in the queue before: still to be archived, or under way. */
  readonly alreadyQueued: number;
}

/** Sessions queued at once: one round of bulk work. */
const BATCH_SIZE = 1_000;

/** The sessions that archiving again may mend, each once. */
export class BrokenSessions {
  readonly #sessions = new Map<string, SessionRef>();

  add({ repairable, sessionId, botId }: Finding): void {
    if (!repairable || sessionId === undefined || botId === undefined) return;
    this.#sessions.set(`${botId}.${sessionId}`, { sessionId, botId });
  }

  get size(): number {
    return this.#sessions.size;
  }

  /**
   * Queues them behind live sessions. Each takes the place of what is archived of it, but only once Kore has shown
   * that it still has it: otherwise all stays as it is.
   */
  async enqueue(operations: Pick<Operations, 'enqueue'>, signal: AbortSignal): Promise<RepairCounts> {
    const sessions = [...this.#sessions.values()];
    let alreadyQueued = 0;
    for (let at = 0; at < sessions.length; at += BATCH_SIZE) {
      signal.throwIfAborted();
      const batch = sessions.slice(at, at + BATCH_SIZE);
      const results = await operations.enqueue(
        batch.map((session) => ({ ...session, force: true, priority: 'backfill' as const })),
      );
      alreadyQueued += results.filter(({ outcome }) => outcome === 'already-queued').length;
    }
    return { queued: sessions.length - alreadyQueued, alreadyQueued };
  }
}
