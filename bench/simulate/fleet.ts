/**
 * Simulates workers on one queue and one Kore account: discrete events, no transfers, no clock. What a worker does
 * after a failure, when it looks again, how calls are counted and how a breaker probes is the product's own code and
 * tables.
 */

import { RISK_PART } from '../../src/completeness/judge-day.ts';
import { VoicemailError } from '../../src/domain/errors.ts';
import type { CallClass } from '../../src/domain/voicemail.ts';
import { CallLimitReached, MAX_WAIT_MS, windowFor } from '../../src/jobs/call-limit.ts';
import type { Polls, SessionJobProgress } from '../../src/jobs/session-job.ts';
import { BREAKER_TIMES } from '../../src/workers/breaker.ts';
import { decideOutcome, isLongOver, withJitter } from '../../src/workers/failure-policy.ts';
import { firstSettleDelay, nextSettleCheck, transcriptDeadline } from '../../src/workers/settle.ts';
import { TRANSCRIPT_CONCURRENCY } from '../../src/workers/worker.ts';
import { SimulatedCalls } from './call-window.ts';
import { EventClock } from './clock.ts';
import type { Backlog, FleetPlan, FleetResult, OutageKind, PlannedSession, SimulatedCall } from './plan.ts';

/** Times of the simulation count from the beginning; the product's functions want dates. */
const EPOCH = Date.UTC(2026, 0, 1);
/** Rows of the backlog over time. */
const SAMPLES = 48;
/** What follows the download of a recording: its last part, the transcript, the manifest. */
const STORE_MS = 50;

type State = 'open' | 'archived' | 'failed' | 'without' | 'lost';

interface Job {
  readonly index: number;
  readonly plan: PlannedSession;
  state: State;
  progress: SessionJobProgress;
  attemptsMade: number;
  archivedAt: number;
  isTranscriptPending: boolean;
  polls: Polls | undefined;
  /** The event that makes it due counts only if it has this number: others were overtaken. */
  wait: number;
}

interface SimulatedWorker {
  sessions: number;
  checks: number;
  heldUntil: number;
  memoryUsed: number;
  readonly memoryWaiters: (() => void)[];
}

/** Runs it. @param random numbers from 0 to 1, the same ones for the same result. */
export function simulateFleet(plan: FleetPlan, random: () => number): FleetResult {
  return new Fleet(plan, random).run();
}

class Fleet {
  readonly #plan: FleetPlan;
  readonly #random: () => number;
  readonly #clock = new EventClock(EPOCH);
  readonly #window: SimulatedCalls;
  readonly #jobs: Job[];
  readonly #workers: SimulatedWorker[];
  readonly #live: Job[] = [];
  readonly #behind: Job[] = [];
  readonly #checks: Job[] = [];
  /** Where each line begins: taking from the front of a long array costs its length. */
  readonly #heads = { live: 0, behind: 0, checks: 0 };
  /** Sessions that wait for one who is unavailable. */
  readonly #waitingFor = { kore: new Set<Job>(), bucket: new Set<Job>(), media: new Set<Job>() };
  readonly #openBreakers = new Set<'kore' | 'bucket' | 'media'>();
  readonly #calls: SimulatedCall[] = [];
  readonly #waits: number[] = [];
  readonly #delays: number[] = [];
  readonly #backlog: Backlog[] = [];
  #wereAtRisk = 0;
  #expiredUrls = 0;
  #isDispatching = false;
  #hasMoreToDispatch = false;

  constructor(plan: FleetPlan, random: () => number) {
    this.#plan = plan;
    this.#random = random;
    this.#window = new SimulatedCalls(windowFor(plan.rate));
    this.#jobs = plan.sessions.map((session, index) => ({
      index,
      plan: session,
      state: 'open',
      progress: {},
      attemptsMade: 0,
      archivedAt: 0,
      isTranscriptPending: false,
      polls: undefined,
      wait: 0,
    }));
    this.#workers = Array.from({ length: plan.workers }, () => ({
      sessions: 0,
      checks: 0,
      heldUntil: 0,
      memoryUsed: 0,
      memoryWaiters: [],
    }));
  }

  run(): FleetResult {
    const { endsAt, outages } = this.#plan;
    for (const job of this.#jobs) {
      this.#clock.at(EPOCH + job.plan.queuedAt, () => this.#queue(job));
      const forgottenAt = this.#forgottenAt(job);
      if (!Number.isFinite(forgottenAt)) continue;
      this.#clock.at(forgottenAt, () => this.#forget(job));
      this.#clock.at(forgottenAt - this.#plan.retentionMs * RISK_PART, () => {
        if (job.state === 'open') this.#wereAtRisk += 1;
      });
    }
    for (const { kind, to } of outages) {
      if (kind === 'workers') this.#clock.at(EPOCH + to, () => this.#dispatch());
    }
    for (let sample = 1; sample <= SAMPLES; sample += 1) {
      this.#clock.at(EPOCH + (endsAt * sample) / SAMPLES, () => this.#sample());
    }
    this.#clock.runUntil(EPOCH + endsAt);
    const count = (state: State) => this.#jobs.filter((job) => job.state === state).length;
    return {
      waits: this.#waits,
      delays: this.#delays,
      archived: count('archived'),
      failed: count('failed'),
      withoutVoicemail: count('without'),
      lost: count('lost'),
      open: count('open'),
      wereAtRisk: this.#wereAtRisk,
      expiredUrls: this.#expiredUrls,
      calls: this.#calls,
      backlog: this.#backlog,
    };
  }

  // The queue.

  #queue(job: Job): void {
    if (job.state !== 'open') return;
    (job.plan.callClass === 'live' ? this.#live : this.#behind).push(job);
    this.#dispatch();
  }

  /** To the front of its line. */
  #giveBack(job: Job): void {
    this.#heads.live -= 1;
    this.#live[this.#heads.live] = job;
  }

  #dueAt(job: Job, time: number, happen: () => void): void {
    job.wait += 1;
    const { wait } = job;
    this.#clock.at(time, () => {
      if (job.wait === wait) happen();
    });
  }

  /** Gives jobs to workers that have room; whoever gives one back meanwhile is not a call deeper. */
  #dispatch(): void {
    this.#hasMoreToDispatch = true;
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    while (this.#hasMoreToDispatch) {
      this.#hasMoreToDispatch = false;
      this.#giveJobs();
    }
    this.#isDispatching = false;
  }

  #giveJobs(): void {
    if (this.#isAway('workers') || this.#openBreakers.has('kore') || this.#openBreakers.has('bucket')) return;
    for (const worker of this.#byLoad()) {
      if (worker.heldUntil > this.#clock.now) continue;
      while (worker.sessions < this.#plan.work.concurrency) {
        const job = this.#next('live') ?? this.#next('behind');
        if (!job) break;
        worker.sessions += 1;
        this.#attempt(job, worker);
        if (worker.heldUntil > this.#clock.now) break;
      }
      while (worker.checks < TRANSCRIPT_CONCURRENCY && worker.heldUntil <= this.#clock.now) {
        const job = this.#next('checks');
        if (!job) break;
        worker.checks += 1;
        this.#check(job, worker);
      }
    }
  }

  #byLoad(): SimulatedWorker[] {
    return this.#workers.toSorted((a, b) => a.sessions - b.sessions);
  }

  #next(line: 'live' | 'behind' | 'checks'): Job | undefined {
    const jobs = { live: this.#live, behind: this.#behind, checks: this.#checks }[line];
    for (let job = jobs[this.#heads[line]]; job; job = jobs[this.#heads[line]]) {
      this.#heads[line] += 1;
      if (line === 'checks' || job.state === 'open') return job;
    }
    return undefined;
  }

  // A session.

  #attempt(job: Job, worker: SimulatedWorker): void {
    const free = () => {
      worker.sessions -= 1;
      this.#dispatch();
    };
    const fail = (error: VoicemailError) => {
      this.#fail(job, error, worker);
      free();
    };
    this.#call(job, job.plan.callClass, 'session', fail, () => {
      const { recordingAt, beganAt, isMaybe } = job.plan;
      const now = this.#clock.now;
      if (job.state !== 'open') return fail(new VoicemailError('SESSION_NOT_FOUND', 'forgotten'));
      if (now < EPOCH + recordingAt) {
        const isNone = isMaybe && isLongOver(EPOCH + beganAt, now);
        const code = isNone ? 'RECORDING_UNAVAILABLE' : 'RECORDING_NOT_READY';
        return fail(new VoicemailError(code, 'no recording', { retryable: !isNone }));
      }
      this.#withMemory(worker, () => this.#download(job, now, worker, fail, free));
    });
  }

  /** Waits for memory, in the order of asking. */
  #withMemory(worker: SimulatedWorker, work: () => void): void {
    const { bytesHeld, work: settings } = this.#plan;
    const wanted = Math.min(bytesHeld, settings.transferMemoryBytes);
    if (worker.memoryUsed + wanted > settings.transferMemoryBytes) {
      worker.memoryWaiters.push(() => this.#withMemory(worker, work));
      return;
    }
    worker.memoryUsed += wanted;
    work();
  }

  #freeMemory(worker: SimulatedWorker): void {
    const { bytesHeld, work } = this.#plan;
    worker.memoryUsed -= Math.min(bytesHeld, work.transferMemoryBytes);
    worker.memoryWaiters.shift()?.();
  }

  #download(
    job: Job,
    listedAt: number,
    worker: SimulatedWorker,
    fail: (error: VoicemailError) => void,
    free: () => void,
  ): void {
    const give = (error: VoicemailError) => {
      this.#freeMemory(worker);
      fail(error);
    };
    if (this.#clock.now - listedAt >= this.#plan.urlLifetimeMs) {
      this.#expiredUrls += 1;
      this.#call(job, job.plan.callClass, 'fresh-url', give, () =>
        this.#download(job, this.#clock.now, worker, fail, free),
      );
      return;
    }
    const took = (job.plan.bytes / this.#plan.bytesPerSecond) * 1000 + STORE_MS;
    this.#clock.at(this.#clock.now + took, () => {
      if (this.#isAway('media')) return give(new VoicemailError('DOWNLOAD_FAILED', 'away'));
      if (this.#isAway('bucket')) return give(new VoicemailError('ARCHIVE_UNAVAILABLE', 'away'));
      this.#freeMemory(worker);
      this.#archived(job);
      free();
    });
  }

  #archived(job: Job): void {
    const { now } = this.#clock;
    const { plan } = job;
    job.state = 'archived';
    job.archivedAt = now;
    job.progress = {};
    job.isTranscriptPending = EPOCH + plan.transcriptAt > now;
    this.#waits.push(now - EPOCH - plan.queuedAt);
    this.#delays.push(now - EPOCH - Math.max(plan.queuedAt, plan.recordingAt));
    const checkIn = firstSettleDelay(
      {
        ...NO_ID,
        beganAt: EPOCH + plan.beganAt,
        archivedAt: new Date(now),
        transcript: job.isTranscriptPending ? 'pending' : 'archived',
        isInDoubt: false,
      },
      this.#plan.work,
      new Date(now),
    );
    if (checkIn !== undefined) this.#checkAt(job, now + checkIn);
  }

  #fail(job: Job, error: VoicemailError, worker: SimulatedWorker): void {
    if (job.state !== 'open') return;
    const { now } = this.#clock;
    const { verdict, progress, holdMs } = decideOutcome(
      {
        error,
        attemptsMade: job.attemptsMade,
        progress: job.progress,
        now,
        ...(job.plan.isMaybe && { maybe: { beganAt: EPOCH + job.plan.beganAt } }),
      },
      this.#plan.work,
      this.#random,
    );
    job.progress = progress;
    if (holdMs !== undefined) this.#hold(worker, holdMs);
    if (error.code === 'KORE_UNAVAILABLE') this.#opens('kore', job);
    if (error.code === 'ARCHIVE_UNAVAILABLE') this.#opens('bucket', job);
    if (error.code === 'DOWNLOAD_FAILED') this.#opens('media', job);
    if (verdict.kind === 'wait' && verdict.keepsPlace) this.#giveBack(job);
    else if (verdict.kind === 'wait') this.#dueAt(job, verdict.until, () => this.#queue(job));
    else if (verdict.kind === 'retry') {
      job.attemptsMade += 1;
      this.#dueAt(job, now + verdict.delayMs, () => this.#queue(job));
    } else if (verdict.kind === 'forget') job.state = 'without';
    else if (verdict.kind === 'fail') job.state = 'failed';
    else throw new Error(`no failed attempt ends with ${verdict.kind}`);
  }

  #hold(worker: SimulatedWorker, milliseconds: number): void {
    const until = this.#clock.now + milliseconds;
    if (until <= worker.heldUntil) return;
    worker.heldUntil = until;
    this.#clock.at(until, () => this.#dispatch());
  }

  // Calls.

  /** Makes a call of Kore's once the limit allows it. */
  #call(
    job: Job,
    callClass: CallClass,
    purpose: SimulatedCall['purpose'],
    fail: (error: VoicemailError) => void,
    answered: () => void,
    waited = 0,
  ): void {
    const { now } = this.#clock;
    const wait = this.#window.take(callClass, now);
    if (wait > 0) {
      if (waited + wait > MAX_WAIT_MS) fail(new CallLimitReached(wait, callClass));
      else
        this.#clock.at(now + wait, () => this.#call(job, callClass, purpose, fail, answered, waited + wait));
      return;
    }
    this.#calls.push({ at: now - EPOCH, session: job.index, purpose });
    this.#clock.at(now + this.#plan.answerMs, () => {
      if (this.#isAway('kore')) fail(new VoicemailError('KORE_UNAVAILABLE', 'away'));
      else answered();
    });
  }

  // Checks of archived sessions.

  #checkAt(job: Job, time: number): void {
    this.#dueAt(job, time, () => {
      this.#checks.push(job);
      this.#dispatch();
    });
  }

  #check(job: Job, worker: SimulatedWorker): void {
    const free = () => {
      worker.checks -= 1;
      this.#dispatch();
    };
    const later = (error: VoicemailError) => {
      const { now } = this.#clock;
      const limits = this.#plan.work;
      const attempt = { error, attemptsMade: 0, progress: job.progress, now };
      const outcome = decideOutcome(attempt, limits, this.#random);
      if (outcome.holdMs !== undefined) this.#hold(worker, outcome.holdMs);
      if (outcome.verdict.kind === 'wait') {
        job.progress = outcome.progress;
        this.#checkAt(job, outcome.verdict.until);
      } else {
        const next = nextSettleCheck(job.polls, now, limits, this.#random);
        job.polls = next.polls;
        this.#checkAt(job, next.at);
      }
      free();
    };
    this.#call(job, 'background', 'check', later, () => {
      this.#checked(job);
      free();
    });
  }

  #checked(job: Job): void {
    const { now } = this.#clock;
    const { pollDelayMs, settleWaitMs, transcriptWaitMs } = this.#plan.work;
    const beganAt = EPOCH + job.plan.beganAt;
    const transcriptUntil = transcriptDeadline(beganAt, job.archivedAt, transcriptWaitMs);
    const isThere = EPOCH + job.plan.transcriptAt <= now;
    if (isThere || now >= transcriptUntil) job.isTranscriptPending = false;
    const archived = { ...NO_ID, beganAt, archivedAt: new Date(job.archivedAt), isInDoubt: false };
    const untilSettled = firstSettleDelay(
      { ...archived, transcript: 'archived' },
      this.#plan.work,
      new Date(now),
    );
    const settleAt = untilSettled === undefined || settleWaitMs === 0 ? undefined : now + untilSettled;
    const due = [job.isTranscriptPending ? transcriptUntil : undefined, settleAt];
    const dueAt = Math.min(...due.filter((time) => time !== undefined && time > now).map(Number));
    if (job.isTranscriptPending) {
      const next = nextSettleCheck(job.polls, now, { pollDelayMs, dueAt }, this.#random);
      job.polls = next.polls;
      this.#checkAt(job, next.at);
    } else if (Number.isFinite(dueAt)) {
      this.#checkAt(job, dueAt);
    }
  }

  // Outages.

  #isAway(kind: OutageKind): boolean {
    const now = this.#clock.now - EPOCH;
    return this.#plan.outages.some((outage) => outage.kind === kind && outage.from <= now && now < outage.to);
  }

  /** A breaker opens with the first failure, as the probe that follows fails as well; probes find the end. */
  #opens(dependency: 'kore' | 'bucket' | 'media', job: Job): void {
    this.#waitingFor[dependency].add(job);
    if (this.#openBreakers.has(dependency)) return;
    this.#openBreakers.add(dependency);
    this.#probeIn(dependency, BREAKER_TIMES.firstPauseMs, job);
  }

  #probeIn(dependency: 'kore' | 'bucket' | 'media', pauseMs: number, job: Job): void {
    this.#clock.at(this.#clock.now + withJitter(pauseMs, this.#random), () => {
      if (dependency === 'kore') {
        // Each worker has a breaker of its own.
        for (const _ of this.#workers) {
          if (this.#window.take('live', this.#clock.now) > 0) continue;
          this.#calls.push({ at: this.#clock.now - EPOCH, session: job.index, purpose: 'probe' });
        }
      }
      if (this.#isAway(dependency)) {
        return this.#probeIn(dependency, Math.min(pauseMs * 2, BREAKER_TIMES.longestPauseMs), job);
      }
      this.#openBreakers.delete(dependency);
      const waiting = [...this.#waitingFor[dependency]];
      this.#waitingFor[dependency].clear();
      for (const one of waiting) this.#dueAt(one, this.#clock.now, () => this.#queue(one));
      this.#dispatch();
    });
  }

  // Retention.

  #forgottenAt({ plan }: Job): number {
    return EPOCH + plan.beganAt + this.#plan.retentionMs;
  }

  /** Kore forgets a session: what is not archived is lost. */
  #forget(job: Job): void {
    if (job.state !== 'open') return;
    job.state = Number.isFinite(job.plan.recordingAt) ? 'lost' : 'without';
  }

  #sample(): void {
    const { now } = this.#clock;
    const { retentionMs } = this.#plan;
    const come = this.#jobs.filter(({ plan }) => EPOCH + plan.queuedAt <= now);
    const open = come.filter(({ state }) => state === 'open');
    const atRisk = open.filter(
      (job) => Number.isFinite(retentionMs) && this.#forgottenAt(job) - now < retentionMs * RISK_PART,
    );
    this.#backlog.push({
      at: now - EPOCH,
      open: open.length,
      archived: come.filter(({ state }) => state === 'archived').length,
      atRisk: atRisk.length,
    });
  }
}

/** The start of a simulated session is given besides its id. */
const NO_ID = { botId: 'simulated', sessionId: 'simulated' } as const;
