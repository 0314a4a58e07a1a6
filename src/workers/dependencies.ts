import { setTimeout as sleep } from 'node:timers/promises';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import type { SessionRef } from '../domain/session.ts';
import type { BreakerView } from '../domain/views.ts';
import { CallLimitReached } from '../jobs/call-limit.ts';
import type { Consumer, TakenJob } from '../jobs/consumer.ts';
import { jobId } from '../jobs/session-job.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import { BREAKER_PROBE_KEY, PROBE_BODY, PROBE_INFO } from '../storage/keys.ts';
import type { RetryWrites } from '../storage/store.ts';
import { unlessAborted, withinTime } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { AbortOnOpenBreaker, runWhileClosed } from './abort-on-open-breaker.ts';
import type { ArchiveDeps } from './archive-session.ts';
import { Breaker, type BreakerOptions, type BreakerTimes } from './breaker.ts';
import { guardStore } from './custody.ts';
import {
  asVoicemailError,
  type DependencyKind,
  FAILURE_RULES,
  growingPause,
  withJitter,
} from './failure-policy.ts';

/** The parts of a worker that need a dependency. */
export type DependentParts = Pick<ArchiveDeps, 'fetchVoicemail' | 'store' | 'transfer'>;

/** What {@link Dependencies} work with. */
export interface DependenciesOptions {
  readonly parts: DependentParts;
  readonly queue: SessionQueue;
  /** Those that take nothing while Kore or the bucket is unavailable. */
  readonly consumers: () => readonly Pick<Consumer, 'holdFor' | 'release' | 'has' | 'ended'>[];
  readonly log: Logger;
  readonly times?: Partial<BreakerTimes> | undefined;
}

/** Failures in a row that open the breaker of a media host. A single failure may concern one recording only. */
const MEDIA_FAILURES_TO_OPEN = 3;
/** A transfer or write without progress for this long may hang in the bucket; a probe decides. */
const STALL_TIMEOUT_MS = 10_000;
/** How often transfers and writes are checked for that (milliseconds). */
const STALL_CHECK_INTERVAL_MS = 1_000;
/**
 * How long downloaded bytes are held while the bucket is unavailable. Then its session waits in the queue like the
 * others, and downloads again: memory and the recordings' URLs do not last for ever.
 */
const HOLD_MS = 10 * 60 * 1000;
/** How often downloaded bytes are sent to a bucket that works otherwise, and the first pause; pauses double. */
const SENDS = 3;
const RESEND_PAUSE_MS = 500;
/**
 * The number of next sessions from which a probe of Kore takes one, so that a few bad ones do not look like an outage.
 */
const PROBE_CHOICE = 20;
/** Each probe of Kore's is a call of the limit (`KORE_RATE_LIMIT`) that all workers share (milliseconds). */
const KORE_LONGEST_PAUSE_MS = 3_000;
/** Each probe of a media host is an attempt at a session, which costs calls of Kore's as well (milliseconds). */
const MEDIA_LONGEST_PAUSE_MS = 5_000;
/**
 * A session whose media host is unavailable continues when that works again. This is for when its worker is gone by
 * then: each time that it comes in vain costs a call of Kore's (milliseconds).
 */
const REFUSED_PAUSE_MS = 10 * 60 * 1000;
/** How many sessions are stored that failed again after their media host was found working. */
const MAX_FAILED_AGAIN = 10_000;

/**
 * Those a worker depends on, each with its breaker: Kore, the bucket, the queue, and each media host. While Kore or the
 * bucket is unavailable no session is taken; while a media host is unavailable the sessions whose recordings are on it
 * wait. When one works again, whatever waited for it goes on at once.
 */
export class Dependencies {
  readonly #options: DependenciesOptions;
  readonly #kore: Breaker;
  readonly #bucket: Breaker;
  readonly #queue: Breaker;
  readonly #media = new Map<string, MediaHost>();
  /** Sessions that wait for Kore or for the bucket, by their jobs' ids. */
  readonly #waiting = { kore: new Map<string, SessionRef>(), bucket: new Map<string, SessionRef>() };
  /** The last session that Kore answered for. */
  #lastFetched: SessionRef | undefined;
  /** Transfers and requests to the bucket that are under way, and when they last got further (`performance.now()`). */
  readonly #moving = new Set<{ readonly session: SessionRef; progressedAt: number }>();
  /** Checks those: one timer for all of them. */
  #watch: NodeJS.Timeout | undefined;

  constructor(options: DependenciesOptions) {
    this.#options = options;
    const { log, queue, times } = options;
    const breaker = (
      dependency: 'kore' | 'bucket',
      probe: BreakerOptions['probe'],
      ownTimes: Partial<BreakerTimes> = {},
    ) =>
      new Breaker({
        dependency,
        probe,
        onOpen: () => this.#hold(dependency),
        onClose: () => this.#release(dependency),
        onCleared: () => this.#waiting[dependency].clear(),
        log,
        times: { ...ownTimes, ...times },
      });
    this.#kore = breaker('kore', (signal, suspect) => this.#probeKore(signal, suspect), {
      longestPauseMs: KORE_LONGEST_PAUSE_MS,
    });
    this.#bucket = breaker('bucket', (signal) => this.#probeBucket(signal));
    this.#queue = new Breaker({
      dependency: 'queue',
      probe: () => queue.check(),
      log,
      ...(times && { times }),
    });
  }

  /** The states of all breakers. Media hosts are included only while they are unavailable. */
  views(): BreakerView[] {
    const hosts = [...this.#media.values()].map(({ breaker }) => breaker).filter(({ isOpen }) => isOpen);
    return [this.#kore, this.#bucket, this.#queue, ...hosts].map((breaker) => breaker.view());
  }

  /**
   * Works on one session with parts that are watched, and that write only while the job is this worker's.
   *
   * @param work is aborted when the bucket fails before anything was downloaded. After that it goes on, and what
   *   is downloaded is held until the bucket works again, for some minutes.
   * @throws what `work` throws; `ARCHIVE_UNAVAILABLE` or `ARCHIVE_DENIED` when it was aborted.
   */
  async run<T>(
    job: Pick<TakenJob, 'data' | 'assertOwned'>,
    signal: AbortSignal,
    work: (parts: DependentParts, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { data: session, assertOwned } = job;
    const { fetchVoicemail, store, transfer } = this.#options.parts;
    let holdsBytes = false;
    const requests = new AbortOnOpenBreaker(this.#bucket);
    const persist: RetryWrites = (request, errorOf, outer) =>
      this.#persist(job, requests, request, errorOf, outer);
    const parts: DependentParts = {
      store: guardStore(store, assertOwned, (request, outer) =>
        this.#watchProgress(session, async () =>
          holdsBytes ? persist(request, unchangedError, outer) : request(outer),
        ),
      ),
      fetchVoicemail: (ref, callClass, outer) =>
        runWhileClosed(this.#kore, outer, async (inner) => {
          const voicemail = await fetchVoicemail(ref, callClass, inner);
          this.#lastFetched = ref;
          this.#kore.succeeded();
          return voicemail;
        }),
      transfer: async (request, outer) => {
        // With others of the session in memory, it waits with them.
        if (holdsBytes) await this.#untilClosed(outer, HOLD_MS);
        if (this.#bucket.reason) throw this.#bucket.reason;
        holdsBytes = true;
        return this.#onHost(request.recording.fileUrl, session, () =>
          this.#watchProgress(session, async (onProgressMade) => {
            await assertOwned();
            const watched = {
              ...request,
              persist,
              onProgress(bytes: number) {
                onProgressMade();
                request.onProgress?.(bytes);
              },
            };
            const transferred = await transfer(watched, outer);
            this.#bucket.succeeded();
            return transferred;
          }),
        );
      },
    };
    const whole = new AbortOnOpenBreaker(this.#bucket, () => !holdsBytes);
    try {
      return await whole.run(signal, (inner) => work(parts, inner));
    } finally {
      whole.end();
      requests.end();
    }
  }

  /** A session failed: its dependency is probed, and the session continues as soon as an outage is over. */
  failed(session: SessionRef, error: VoicemailError): void {
    const { dependency } = FAILURE_RULES[error.code];
    if (dependency !== 'kore' && dependency !== 'bucket') return;
    this.#waiting[dependency].set(jobId(session), session);
    this.#breaker(dependency).suspect(jobId(session), error);
  }

  /** The queue's driver met a fault. */
  queueFailed(error: Error): void {
    this.#queue.suspect('', asVoicemailError(error));
  }

  /** Ends all probing and watching. */
  async stop(): Promise<void> {
    const hosts = [...this.#media.values()].map(({ breaker }) => breaker);
    await Promise.all([this.#kore, this.#bucket, this.#queue, ...hosts].map((breaker) => breaker.stop()));
    clearInterval(this.#watch);
    this.#watch = undefined;
  }

  /** Sends a request until it is answered: at once again where only it failed, and after an outage of the bucket. */
  async #persist<T>(
    { data: session, assertOwned }: Pick<TakenJob, 'data' | 'assertOwned'>,
    requests: AbortOnOpenBreaker,
    request: (signal: AbortSignal) => Promise<T>,
    errorOf: (error: unknown) => unknown,
    signal: AbortSignal,
  ): Promise<T> {
    const heldUntil = performance.now() + HOLD_MS;
    for (let sends = 1; ; ) {
      try {
        return await requests.run(signal, request);
      } catch (error) {
        signal.throwIfAborted();
        const known = errorOf(error);
        if (!isVoicemailError(known) || FAILURE_RULES[known.code].dependency !== 'bucket') throw error;
        this.failed(session, known);
        await this.#bucket.confirmed;
        if (this.#bucket.isOpen) {
          if (!(await this.#untilClosed(signal, heldUntil - performance.now()))) throw error;
        } else {
          if (sends === SENDS) throw error;
          await sleep(withJitter(growingPause(RESEND_PAUSE_MS, sends - 1)), undefined, { signal });
          sends += 1;
        }
      }
      await assertOwned();
    }
  }

  /** @returns whether the bucket's breaker is closed, within that time. */
  #untilClosed(signal: AbortSignal, milliseconds: number): Promise<boolean> {
    return withinTime(unlessAborted(this.#bucket.closed, signal), milliseconds);
  }

  #breaker(dependency: Exclude<DependencyKind, 'media'>): Breaker {
    return dependency === 'kore' ? this.#kore : this.#bucket;
  }

  #hold(dependency: 'kore' | 'bucket'): void {
    for (const consumer of this.#options.consumers()) this.#logFailure(consumer.holdFor(dependency));
  }

  #release(dependency: 'kore' | 'bucket'): void {
    for (const consumer of this.#options.consumers()) consumer.release(dependency);
    const waiting = this.#waiting[dependency];
    const sessions = [...waiting.values()];
    waiting.clear();
    this.#resume(sessions);
  }

  /** Makes sessions due whose dependency works again; an active session as soon as it waits. */
  #resume(sessions: readonly SessionRef[]): void {
    const { queue, consumers } = this.#options;
    this.#logFailure(queue.makeDue(sessions));
    const active = sessions.filter((session) => consumers().some((one) => one.has(jobId(session))));
    for (const session of active) {
      const ended = Promise.all(consumers().map((one) => one.ended(jobId(session))));
      this.#logFailure(ended.then(() => queue.makeDue([session])));
    }
  }

  #logFailure(work: Promise<unknown>): void {
    work.catch((error: unknown) =>
      this.#options.log.warn({ err: error }, 'could not report to the queue what sessions wait for'),
    );
  }

  /**
   * Any answer about any session proves that Kore works, unless it is one that an outage gives. What is wrong with the
   * answer about a session that is alone is rather a fault of that one.
   */
  async #probeKore(signal: AbortSignal, suspect: string | undefined): Promise<void> {
    const session = await this.#sessionToAskFor(suspect);
    if (!session) throw new VoicemailError('KORE_UNAVAILABLE', 'there is no session to ask Kore for');
    try {
      await this.#options.parts.fetchVoicemail(session, 'live', signal);
    } catch (error) {
      const isAnswer =
        isVoicemailError(error) &&
        !(error instanceof CallLimitReached) &&
        (FAILURE_RULES[error.code].dependency !== 'kore' ||
          (error.code === 'KORE_BAD_RESPONSE' && jobId(session) === suspect));
      if (!isAnswer) throw error;
    }
  }

  /**
   * One that Kore is known to answer for, where there is one; else any of those that are next, or of those that wait.
   * The suspect only where it is alone: then no other session waits in vain if Kore is not at fault.
   */
  async #sessionToAskFor(suspect: string | undefined): Promise<SessionRef | undefined> {
    if (this.#lastFetched && jobId(this.#lastFetched) !== suspect) return this.#lastFetched;
    const next = await this.#options.queue.next(PROBE_CHOICE);
    const waiting = this.#waiting.kore;
    const untried = next.filter((ref) => !waiting.has(jobId(ref)));
    const others = [...waiting.values()].filter((ref) => jobId(ref) !== suspect);
    const choice = [untried, others, next, [...waiting.values()]].find(({ length }) => length > 0) ?? [];
    return choice[Math.floor(Math.random() * choice.length)];
  }

  /** A bucket that can be read may still refuse to be written to. */
  async #probeBucket(signal: AbortSignal): Promise<void> {
    const { store } = this.#options.parts;
    await store.write(BREAKER_PROBE_KEY, PROBE_BODY, PROBE_INFO, 'replace', signal);
    await store.head(BREAKER_PROBE_KEY, signal);
  }

  /** Transfers a recording, unless its host is unavailable. */
  async #onHost<T>(fileUrl: string, session: SessionRef, transfer: () => Promise<T>): Promise<T> {
    const name = URL.parse(fileUrl)?.host;
    if (name === undefined) return transfer();
    const host = this.#host(name);
    host.enter(session);
    try {
      const transferred = await transfer();
      host.succeeded(session);
      return transferred;
    } catch (error) {
      if (isVoicemailError(error) && FAILURE_RULES[error.code].dependency === 'media') {
        host.failed(session, error);
      }
      throw error;
    }
  }

  #host(name: string): MediaHost {
    const known = this.#media.get(name);
    if (known) return known;
    const { queue, log, times } = this.#options;
    const host = new MediaHost(name, {
      makeDue: async (sessions) => {
        await queue.makeDue(sessions);
      },
      resume: (sessions) => this.#resume(sessions),
      log,
      times,
    });
    this.#media.set(name, host);
    return host;
  }

  /** A transfer that gets no further makes the bucket a suspect: a request that hangs takes minutes to fail. */
  async #watchProgress<T>(session: SessionRef, work: (onProgressMade: () => void) => Promise<T>): Promise<T> {
    const moving = { session, progressedAt: performance.now() };
    this.#moving.add(moving);
    this.#watch ??= setInterval(() => this.#suspectStalled(), STALL_CHECK_INTERVAL_MS);
    try {
      return await work(() => {
        moving.progressedAt = performance.now();
      });
    } finally {
      this.#moving.delete(moving);
    }
  }

  #suspectStalled(): void {
    if (this.#moving.size === 0) {
      clearInterval(this.#watch);
      this.#watch = undefined;
      return;
    }
    const now = performance.now();
    for (const moving of this.#moving) {
      if (now - moving.progressedAt < STALL_TIMEOUT_MS) continue;
      moving.progressedAt = now;
      const error = new VoicemailError('ARCHIVE_UNAVAILABLE', 'the archive does not answer');
      this.#bucket.suspect(jobId(moving.session), error);
    }
  }
}

interface MediaHostOptions {
  readonly makeDue: (sessions: readonly SessionRef[]) => Promise<void>;
  readonly resume: (sessions: readonly SessionRef[]) => void;
  readonly log: Logger;
  readonly times?: Partial<BreakerTimes> | undefined;
}

/**
 * A media host, with the sessions that wait for it. The probe is a session of these, whose recording is let through.
 */
class MediaHost {
  readonly breaker: Breaker;
  readonly #options: MediaHostOptions;
  readonly #name: string;
  /** Sessions that wait for it, and made no request of their own. */
  readonly #refused = new Map<string, SessionRef>();
  /** Those that failed there, the longest ago first. */
  readonly #failed = new Map<string, SessionRef>();
  /** Those that went on once already when it worked again: if that did not help, their own pauses count. */
  readonly #failedAgain = new Set<string>();
  /** The first session is the probe. */
  #admitted = false;
  /** What the running probe waits for; without a probe there is none. */
  #outcome: PromiseWithResolvers<void> | undefined;

  constructor(name: string, options: MediaHostOptions) {
    this.#name = name;
    this.#options = options;
    const { log, times } = options;
    this.breaker = new Breaker({
      dependency: `media:${name}`,
      failuresToOpen: MEDIA_FAILURES_TO_OPEN,
      probe: (signal) => this.#probe(signal),
      onClose: () => this.#resume(),
      log,
      times: { longestPauseMs: MEDIA_LONGEST_PAUSE_MS, ...times },
    });
  }

  /** @throws VoicemailError `DOWNLOAD_FAILED` while the host is unavailable, but for one at a time. */
  enter(session: SessionRef): void {
    if (!this.breaker.isOpen) return;
    if (this.#admitted) {
      this.#admitted = false;
      return;
    }
    const id = jobId(session);
    if (!this.#failed.has(id)) this.#refused.set(id, session);
    throw new VoicemailError('DOWNLOAD_FAILED', `the media host ${this.#name} is unavailable`, {
      host: this.#name,
      retryAfterMs: REFUSED_PAUSE_MS,
    });
  }

  succeeded(session: SessionRef): void {
    this.#forget(session);
    this.#failedAgain.delete(jobId(session));
    this.#outcome?.resolve();
    this.breaker.succeeded();
    // Those that failed did so for reasons of their own.
    if (!this.breaker.isOpen) this.#failed.clear();
  }

  failed(session: SessionRef, error: VoicemailError): void {
    // At the end of the line, so that another one is the next probe.
    this.#forget(session);
    this.#failed.set(jobId(session), session);
    this.#outcome?.reject(error);
    this.breaker.suspect(jobId(session), error);
  }

  /** Lets one session through. One that has not failed yet goes first: others may fail for reasons of their own. */
  async #probe(signal: AbortSignal): Promise<void> {
    const outcome = Promise.withResolvers<void>();
    const { promise } = outcome;
    this.#outcome = outcome;
    // No caller may wait for it any more when it comes.
    promise.catch(() => undefined);
    this.#admitted = true;
    const [session] = [...this.#refused.values(), ...this.#failed.values()];
    if (session) {
      // It may have ended otherwise meanwhile: then the next one is the next probe.
      this.#forget(session);
      this.#failed.set(jobId(session), session);
      await this.#options.makeDue([session]);
    }
    await unlessAborted(promise, signal);
  }

  #resume(): void {
    const again = [...this.#failed].filter(([id]) => !this.#failedAgain.has(id));
    this.#options.resume([...this.#refused.values(), ...again.map(([, session]) => session)]);
    if (this.#failedAgain.size > MAX_FAILED_AGAIN) this.#failedAgain.clear();
    for (const [id] of again) this.#failedAgain.add(id);
    this.#refused.clear();
    this.#failed.clear();
  }

  #forget(session: SessionRef): void {
    this.#refused.delete(jobId(session));
    this.#failed.delete(jobId(session));
  }
}

function unchangedError(error: unknown): unknown {
  return error;
}
