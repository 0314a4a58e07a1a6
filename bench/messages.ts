/** The messages between the processes of the bench. */

/** From a worker or a server, to whoever started it. */
export type Message =
  | { readonly kind: 'sink'; readonly url: string }
  | {
      readonly kind: 'kore';
      readonly url: string;
      readonly botId: string;
      readonly clientId: string;
      readonly clientSecret: string;
      readonly recordingBytes: number;
      readonly sessionIds: readonly string[];
    }
  /** A worker is ready to archive. */
  | { readonly kind: 'ready' }
  /** The CPU time its process has taken so far, user and system, and the most memory it has held. */
  | { readonly kind: 'cost'; readonly cpuMs: number; readonly peakMemoryBytes: number }
  /** Requests to the sink so far, by method. */
  | { readonly kind: 'requests'; readonly counts: Readonly<Record<string, number>> }
  /** All sessions asked for by `archive` are done. */
  | { readonly kind: 'archived' };

/** To a worker. */
export type Order =
  | { readonly kind: 'cost' }
  /** For the sink. */
  | { readonly kind: 'requests' }
  /** For the worker that has no queue. */
  | { readonly kind: 'archive'; readonly sessionIds: readonly string[] }
  | { readonly kind: 'stop' };

/** Sends a message to the process that started this one. */
export function tellParent(message: Message): void {
  if (!process.send) throw new Error('this program is started by bench/run.ts');
  process.send(message);
}

/** Obeys the orders of the process that started this one, and ends with it. */
export function obey(worker: {
  archive?(sessionIds: readonly string[]): Promise<void>;
  requests?(): Readonly<Record<string, number>>;
  stop(): Promise<void>;
}): void {
  process.on('message', async (order: Order) => {
    switch (order.kind) {
      case 'cost':
        return tellParent({ kind: 'cost', ...cost() });
      case 'requests':
        return tellParent({ kind: 'requests', counts: worker.requests?.() ?? {} });
      case 'archive':
        await worker.archive?.(order.sessionIds);
        return tellParent({ kind: 'archived' });
      case 'stop':
        await worker.stop();
        process.disconnect();
    }
  });
  tellParent({ kind: 'ready' });
}

function cost() {
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  return { cpuMs: (userCPUTime + systemCPUTime) / 1000, peakMemoryBytes: maxRSS * 1024 };
}
