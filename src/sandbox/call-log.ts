/** Which of the sandbox's routes a request took; `other` for all it does not know. */
export type RouteName = 'voicemail' | 'calls' | 'sessions' | 'media' | 'storage' | 'other';

/** A request, from its arrival on; `status`, `bytesSent` and `state` change while it is answered. */
export interface Call {
  /** Milliseconds since 1970, by the real clock. */
  readonly at: number;
  readonly method: string;
  readonly route: RouteName;
  /** As in the request, whether it is known or not. */
  readonly sessionId?: string;
  /** The position of the recording in its session. */
  readonly recording?: number;
  /** The `Range` header as received. */
  readonly range?: string;
  /** `undefined` until the answer begins, and for good if there was none. */
  readonly status: number | undefined;
  /** Bytes of the body handed to the connection; the receiver may have got fewer. */
  readonly bytesSent: number;
  /** `open` while it is answered, `done` when all was sent, `broken` when the connection ended before. */
  readonly state: 'open' | 'done' | 'broken';
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** The part of a call known at its arrival. */
export type Arrival = Pick<Call, 'method' | 'route' | 'sessionId' | 'recording' | 'range'>;

/** What changes while a call is answered. */
export type CallProgress = Partial<Pick<Call, 'status' | 'bytesSent' | 'state'>>;

interface Waiter {
  readonly holds: (calls: readonly Call[]) => boolean;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/** Remembers requests, and wakes those who wait for one. */
export class CallLog {
  readonly #calls: Mutable<Call>[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #keep: number;
  #closed = false;

  constructor(keep: number) {
    this.#keep = keep;
  }

  /** The same array for as long as the sandbox lives; the oldest leave it at the front. */
  get calls(): readonly Call[] {
    return this.#calls;
  }

  /** Notes a request; the function it returns notes how its answer comes along. */
  open(arrival: Arrival): { readonly call: Call; readonly update: (progress: CallProgress) => void } {
    const call: Mutable<Call> = {
      at: Date.now(),
      ...arrival,
      status: undefined,
      bytesSent: 0,
      state: 'open',
    };
    this.#calls.push(call);
    // Dropped many at a time: taking one from the front of a long array each time would be slow.
    if (this.#calls.length > 2 * this.#keep) this.#calls.splice(0, this.#calls.length - this.#keep);
    this.#wake();
    const update = (progress: CallProgress) => {
      Object.assign(call, progress);
      this.#wake();
    };
    return { call, update };
  }

  /** Resolves as soon as the condition holds, at once if it does already. */
  waitFor(holds: (calls: readonly Call[]) => boolean, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { holds, resolve, reject };
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#waiters.add(waiter);
    if (this.#closed) reject(closedError());
    else this.#try(waiter);
    return promise.finally(() => {
      this.#waiters.delete(waiter);
      signal?.removeEventListener('abort', onAbort);
    });
  }

  /** Ends the log: all that still wait are rejected. */
  close(): void {
    this.#closed = true;
    for (const waiter of this.#waiters) waiter.reject(closedError());
  }

  #wake(): void {
    for (const waiter of this.#waiters) this.#try(waiter);
  }

  #try(waiter: Waiter): void {
    try {
      if (waiter.holds(this.#calls)) waiter.resolve();
    } catch (error) {
      waiter.reject(error);
    }
  }
}

function closedError(): Error {
  return new Error('the sandbox was closed before what was waited for happened');
}
