import type { Logger } from '../../util/log.ts';
import { type Backend, QueueUnavailableError } from './backend.ts';
import { asQueueError } from './driver-errors.ts';

/** Tells the log how a connection is, without a line for each attempt to make it again. */
export interface ConnectionLog {
  /** Something failed: a line for each kind of failure, and a count until it works again. */
  failed(error: Error): void;
  /** It works; a line if it did not. */
  works(): void;
}

/** @param location of the server, without passwords. */
export function createConnectionLog(location: string, log: Logger): ConnectionLog {
  const told = new Set<string>();
  let failures = 0;
  return {
    failed(error) {
      failures += 1;
      // The same failure of another attempt has other numbers in it.
      const kind = error.message.replace(/\d+/g, '#');
      if (told.has(kind)) return;
      told.add(kind);
      log.warn(
        { queue: location, err: error },
        'queue connection failed; failures of this kind are only counted from now on, until it works again',
      );
    },
    works() {
      if (failures > 0) log.info({ queue: location, failures }, 'the queue can be reached again');
      failures = 0;
      told.clear();
    },
  };
}

/** What a part of BullMQ calls with its errors: those of connections go to the backend, all others are told. */
export function errorListener(backend: Backend, log: Logger): (error: Error) => void {
  return (error) => {
    if (asQueueError(error) instanceof QueueUnavailableError) backend.reportFault(error);
    else log.warn({ queue: backend.location, err: error }, 'queue error');
  };
}
