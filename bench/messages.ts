/** What the bench's processes tell each other. */

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
  /** The CPU time its process has taken so far, user and system. */
  | { readonly kind: 'cpu'; readonly milliseconds: number }
  /** All sessions asked for by `archive` are done. */
  | { readonly kind: 'archived' };

/** To a worker. */
export type Order =
  | { readonly kind: 'cpu' }
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
  stop(): Promise<void>;
}): void {
  process.on('message', async (order: Order) => {
    switch (order.kind) {
      case 'cpu':
        return tellParent({ kind: 'cpu', milliseconds: cpuMilliseconds() });
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

function cpuMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
