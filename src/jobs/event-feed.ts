import { setTimeout as pause } from 'node:timers/promises';
import { QueueEvents } from 'bullmq';
import type { SessionEvent } from '../domain/views.ts';
import { withinTime } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import type { Backend, JobEvents } from './backends/backend.ts';
import { errorListener } from './backends/connection-errors.ts';
import { EventReader, isAfter, type JobEvent, readJobEvent } from './job-events.ts';

/** A position to go on from that is none. */
export class InvalidEventIdError extends Error {
  constructor() {
    super('the last event id is not one of this queue: start again without one');
    this.name = 'InvalidEventIdError';
  }
}

/** What tests set otherwise. */
export interface FeedOptions {
  /** How long the queue's events are read after the last subscriber left: most subscribers reconnect at once. */
  readonly lingerMs?: number;
}

const LINGER_MS = 30_000;
/** BullMQ's PostgreSQL backend may miss a wake-up while it is not waiting for one; that costs no more than this. */
const BLOCKING_TIMEOUT_MS = 1_000;
/** The pause before reading resumes after an error. */
const RESTART_PAUSE_MS = 1_000;
/** How long a stop right after the start waits for the connection, so that it can be closed. */
const CONNECT_WAIT_MS = 5_000;
/** A stop takes no longer than this, that wait included. */
const STOP_WAIT_MS = 6_000;
/** What a subscriber has not taken yet, at most. */
const MAX_QUEUED = 1_000;
/** What is read back at a time. */
const REPLAY_SIZE = 200;

/**
 * What happens to the sessions of a queue, for any number of subscribers over one connection. The queue's events
 * are read only while there are subscribers.
 */
export class EventFeed {
  readonly #backend: Backend;
  readonly #queueName: string;
  readonly #log: Logger;
  readonly #lingerMs: number;
  readonly #subscriptions = new Set<EventSubscription>();
  #source: Promise<EventSource> | undefined;
  #lingering: NodeJS.Timeout | undefined;

  /** @param queueName `QUEUE_NAME` */
  constructor(backend: Backend, queueName: string, log: Logger, { lingerMs = LINGER_MS }: FeedOptions = {}) {
    this.#backend = backend;
    this.#queueName = queueName;
    this.#log = log;
    this.#lingerMs = lingerMs;
  }

  /** How many subscriptions there are. */
  get subscribers(): number {
    return this.#subscriptions.size;
  }

  /** Whether the queue's events are being read. */
  get isReading(): boolean {
    return this.#source !== undefined;
  }

  /**
   * Subscribes to what happens from now on, or after the event with the id `after`, as far as the queue still
   * has those.
   * @throws InvalidEventIdError; whatever the queue's driver throws when the queue can't be reached.
   */
  async subscribe(after?: string): Promise<EventSubscription> {
    if (after !== undefined && !this.#backend.isEventId(after)) throw new InvalidEventIdError();
    clearTimeout(this.#lingering);
    const subscription = new EventSubscription({
      after,
      readAfter: (id) => this.#backend.eventsAfter(this.#queueName, id, REPLAY_SIZE),
      onClose: () => this.#leave(subscription),
    });
    this.#subscriptions.add(subscription);
    this.#source ??= openEventSource(this.#backend, this.#queueName, this.#log, (event) => {
      for (const one of this.#subscriptions) one.push(event);
    });
    const source = this.#source;
    try {
      await source;
    } catch (error) {
      if (this.#source === source) this.#source = undefined;
      subscription.close();
      throw error;
    }
    return subscription;
  }

  /** Ends all subscriptions and closes the connection to the queue. */
  async close(): Promise<void> {
    for (const subscription of this.#subscriptions) subscription.close();
    clearTimeout(this.#lingering);
    await this.#stop();
  }

  #leave(subscription: EventSubscription): void {
    this.#subscriptions.delete(subscription);
    if (this.#subscriptions.size > 0) return;
    clearTimeout(this.#lingering);
    this.#lingering = setTimeout(() => {
      this.#stop().catch((error: unknown) =>
        this.#log.warn(
          { queue: this.#backend.location, err: error },
          'could not stop listening to the queue',
        ),
      );
    }, this.#lingerMs);
    // Nothing that the process has to stay for.
    this.#lingering.unref();
  }

  async #stop(): Promise<void> {
    const opening = this.#source;
    this.#source = undefined;
    let source: EventSource | undefined;
    try {
      source = await opening;
    } catch (error) {
      // The subscribers have received the error, and there is nothing to stop.
      this.#log.debug({ queue: this.#backend.location, err: error }, 'could not listen to the queue yet');
    }
    await source?.stop();
  }
}

interface SubscriptionOptions {
  readonly after: string | undefined;
  readonly readAfter: (id: string) => ReturnType<Backend['eventsAfter']>;
  readonly onClose: () => void;
}

/** One subscriber's share of the feed. What it has not taken yet is bounded. */
export class EventSubscription {
  readonly #options: SubscriptionOptions;
  readonly #reader = new EventReader();
  #queued: SessionEvent[] = [];
  /** The last event that was delivered, or the one to continue after. */
  #position: string | undefined;
  #isReplaying: boolean;
  #hasDropped = false;
  readonly #closing = new AbortController();
  #wake: (() => void) | undefined;

  constructor(options: SubscriptionOptions) {
    this.#options = options;
    this.#position = options.after;
    this.#isReplaying = options.after !== undefined;
  }

  /** Aborted when the subscription is closed. */
  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  /**
   * The next events, the oldest first; none when none came within `waitMs`. `undefined` when the subscription has
   * been closed, which it is as well when too much was left untaken.
   * @throws whatever the queue's driver throws when earlier events can't be read.
   */
  async next(waitMs: number): Promise<readonly SessionEvent[] | undefined> {
    while (this.#isReplaying && !this.closed.aborted) {
      const events = await this.#replay();
      if (events.length > 0) return events;
    }
    const deadline = performance.now() + waitMs;
    let events = this.#take();
    // The feed may lag behind what was read back: what comes of it is then no news.
    while (events.length === 0 && !this.closed.aborted && performance.now() < deadline) {
      await this.#wakeUp(deadline - performance.now());
      events = this.#take();
    }
    return this.closed.aborted ? undefined : events;
  }

  /** Adds an event. */
  push(event: SessionEvent): void {
    if (this.#queued.length >= MAX_QUEUED) {
      if (!this.#isReplaying) {
        this.close();
        return;
      }
      // What is dropped now is still to be read back.
      this.#queued = [];
      this.#hasDropped = true;
    }
    this.#queued.push(event);
    this.#wake?.();
  }

  /** Ends the subscription; may be called more than once. */
  close(): void {
    if (this.closed.aborted) return;
    this.#closing.abort();
    this.#queued = [];
    this.#wake?.();
    this.#options.onClose();
  }

  /**
   * Reads back what comes after the position, until there is no more; from then on what was queued meanwhile counts.
   */
  async #replay(): Promise<readonly SessionEvent[]> {
    this.#hasDropped = false;
    const stored = await this.#options.readAfter(this.#position ?? '0');
    this.#position = stored.at(-1)?.id ?? this.#position;
    if (stored.length === 0 && !this.#hasDropped) this.#isReplaying = false;
    return stored
      .map(readJobEvent)
      .map((event) => event && this.#reader.read(event))
      .filter((event) => event !== undefined);
  }

  #take(): readonly SessionEvent[] {
    const position = this.#position;
    const events =
      position === undefined ? this.#queued : this.#queued.filter(({ id }) => isAfter(id, position));
    this.#queued = [];
    this.#position = events.at(-1)?.id ?? position;
    return events;
  }

  async #wakeUp(waitMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, waitMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }
}

/** A queue's events being read. */
interface EventSource {
  stop(): Promise<void>;
}

/** Starts reading a queue's events from its newest on, and goes on doing so whatever happens to the connection. */
async function openEventSource(
  backend: Backend,
  queueName: string,
  log: Logger,
  emit: (event: SessionEvent) => void,
): Promise<EventSource> {
  // Read first, so that events until BullMQ has connected are not missed.
  let position = await backend.lastEventId(queueName);
  const reader = new EventReader();
  const ending = new AbortController();

  const open = (): JobEvents => {
    const events: JobEvents = new QueueEvents(
      backend.queueName(queueName),
      {
        ...backend.options('listener'),
        lastEventId: position,
        blockingTimeout: BLOCKING_TIMEOUT_MS,
        autorun: false,
      },
      backend.factory,
    );
    const receive = (event: JobEvent) => {
      position = event.id;
      const sessionEvent = reader.read(event);
      if (sessionEvent) emit(sessionEvent);
    };
    events.on('waiting', ({ jobId }, id) => receive({ name: 'waiting', id, jobId }));
    events.on('active', ({ jobId }, id) => receive({ name: 'active', id, jobId }));
    events.on('progress', ({ jobId, data }, id) =>
      receive({ name: 'progress', id, jobId, data: typeof data === 'object' ? data : {} }),
    );
    events.on('delayed', ({ jobId, delay }, id) => receive({ name: 'delayed', id, jobId, until: delay }));
    events.on('completed', ({ jobId, returnvalue }, id) =>
      receive({ name: 'completed', id, jobId, result: returnvalue }),
    );
    events.on('failed', ({ jobId, failedReason }, id) =>
      receive({ name: 'failed', id, jobId, reason: failedReason }),
    );
    events.on('error', errorListener(backend, log));
    return events;
  };

  const readOn = async () => {
    while (!ending.signal.aborted) {
      try {
        await events.run();
      } catch (error) {
        log.warn({ queue: backend.location, err: error }, 'listening to the queue broke off');
      }
      if (ending.signal.aborted) return;
      try {
        await events.close();
      } catch (error) {
        log.warn({ queue: backend.location, err: error }, 'listening to the queue broke off');
      }
      await pause(RESTART_PAUSE_MS, undefined, { signal: ending.signal }).catch(() => undefined);
      if (!ending.signal.aborted) events = open();
    }
  };

  let events = open();
  const reading = readOn();
  return {
    async stop() {
      ending.abort();
      const closing = closeEvents(events).then(() => reading);
      // While the server is unavailable, BullMQ waits for it.
      if (await withinTime(closing, STOP_WAIT_MS)) return;
      log.warn({ queue: backend.location }, 'the queue does not answer: stopped listening without it');
      closing.catch((error: unknown) => log.warn({ err: error }, 'listening to the queue failed'));
    },
  };
}

/** Closed before it has connected, BullMQ's PostgreSQL backend leaves a connection open for ever. */
async function closeEvents(events: JobEvents): Promise<void> {
  const waited = new AbortController();
  await Promise.race([
    Promise.allSettled([events.waitUntilReady()]),
    pause(CONNECT_WAIT_MS, undefined, { signal: waited.signal }).catch(() => undefined),
  ]);
  waited.abort();
  await events.close();
}
