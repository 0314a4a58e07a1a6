import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Config, KoreConfig } from '../../src/config/config.ts';
import type { SessionView } from '../../src/domain/views.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { readManifest } from '../../src/storage/documents.ts';
import { manifestKey } from '../../src/storage/layout.ts';
import { hashOf } from '../support/each-setup.ts';
import { createTestQueue, silent, type TestQueue, whyMissing } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';
import {
  type HandMadeWorker,
  type HoldPoint,
  openObserver,
  SHORT_LOCKS,
  startHandMadeWorker,
} from '../support/worker-parts.ts';

const PROCESS = fileURLToPath(new URL('../support/worker-process.ts', import.meta.url));
/** Long enough for a lock to run out and a session to be taken again on any machine. */
const TIMEOUT_MS = 60_000;
const RECORDINGS = ['one.wav', 'two.wav'];

/** What the tests of one kind of queue share. */
interface Setup {
  readonly queue: TestQueue;
  readonly sandbox: Sandbox;
  readonly directory: Awaited<ReturnType<typeof temporaryDirectory>>;
}

for (const kind of ['redis', 'postgres'] as const) {
  const missing = whyMissing(kind);
  // All at once: each of them mostly waits until a lock has run out.
  describe.skipIf(missing !== undefined)(
    `a worker that is suspended until its lock is lost (${kind}${missing ? `: ${missing}` : ''})`,
    { concurrent: true, timeout: 120_000 },
    () => {
      let setup: Setup;

      beforeAll(async () => {
        const [queue, sandbox, directory] = await Promise.all([
          createTestQueue(kind),
          startSandbox(),
          temporaryDirectory(),
        ]);
        setup = { queue, sandbox, directory };
      });
      afterAll(async () => {
        const { queue, sandbox, directory } = setup;
        await Promise.all([queue.remove(), sandbox.close(), directory.remove()]);
      });

      it('a worker that loses its lock in the middle of a recording leaves the session to the one that took it', async () => {
        await using takeover = new Takeover(setup);
        const sessionId = takeover.addSession([{ bytesPerSecond: 200_000 }]);
        const worker = await takeover.startSuspended('none', sessionId);
        await setup.sandbox.waitFor((calls) =>
          calls.some((call) => call.sessionId === sessionId && call.bytesSent > 50_000),
        );
        await takeover.expectTakeover(sessionId, worker);
      });

      it.each([
        ['after Kore has answered', 'answered'],
        ['after a recording', 'recording'],
        ['after the transcript, before the manifest', 'transcript'],
        ['between the check of its lock and the write of the manifest', 'manifest'],
      ] as const)(
        'a worker that loses its lock %s leaves the session to the one that took it',
        async (_, point) => {
          await using takeover = new Takeover(setup);
          const sessionId = takeover.addSession();
          const worker = await takeover.startSuspended(point, sessionId);
          await worker.says(`reached ${point}`);
          await takeover.expectTakeover(sessionId, worker);
        },
      );

      it('a worker that loses its lock during an outage does not report a failure over the archived session', async () => {
        await using takeover = new Takeover(setup);
        const sessionId = takeover.addSession();
        setup.sandbox.session(sessionId).faults.add({ status: 503 });
        const worker = await takeover.startSuspended('answered', sessionId);
        await worker.says('reached answered');
        await takeover.expectTakeover(sessionId, worker);
      });
    },
  );
}

/** A queue with a worker that is suspended, and another one that takes over. */
class Takeover {
  readonly #sandbox: Sandbox;
  readonly #config: Config;
  readonly #kore: KoreConfig;
  #suspended: SuspendedWorker | undefined;
  #other: HandMadeWorker | undefined;

  constructor({ queue, sandbox, directory }: Setup) {
    this.#sandbox = sandbox;
    const { config, kore } = testConfig(
      { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}`, WORKER_CONCURRENCY: '1' },
      { ...queue.config, name: `owned-${randomUUID()}` },
    );
    this.#config = config;
    this.#kore = kore;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#suspended?.kill();
    await this.#other?.stop();
  }

  addSession(mediaFaults: { bytesPerSecond: number }[] = []): string {
    return this.#sandbox.addSession({
      recordings: RECORDINGS.map((fileName) => ({ fileName, bytes: 200_000, mediaFaults })),
      transcription: 'pineapple umbrella',
    });
  }

  /** Starts a worker that stops at a point of its work on the session. */
  async startSuspended(point: HoldPoint | 'none', sessionId: string): Promise<SuspendedWorker> {
    const worker = new SuspendedWorker(this.#config, this.#kore, point);
    this.#suspended = worker;
    await worker.says('ready');
    const enqueuer = await openObserver(this.#config, silent);
    await enqueuer.queue.enqueue([this.#ref(sessionId)]);
    await enqueuer.stop();
    return worker;
  }

  /** Another worker takes the session over and archives it; then the first one continues and finds its lock lost. */
  async expectTakeover(sessionId: string, worker: SuspendedWorker): Promise<void> {
    worker.suspend();
    const taker = await startHandMadeWorker({
      config: this.#config,
      kore: this.#kore,
      log: silent,
      tuning: SHORT_LOCKS,
      reached: async () => undefined,
    });
    this.#other = taker;
    await this.#waitFor(taker, sessionId, ({ state }) => state === 'archived');
    const before = await this.#archivedState(taker, sessionId);
    worker.goOn();
    await worker.says('the lock of a job is lost');
    // It takes sessions again: whatever it had to say of the lost one is said by then.
    this.#other = undefined;
    await taker.stop();
    const next = this.addSession();
    const observer = await openObserver(this.#config, silent);
    this.#other = observer;
    await observer.queue.enqueue([this.#ref(next)]);
    await this.#waitFor(observer, next, ({ state }) => state === 'archived');
    expect(await this.#archivedState(observer, sessionId)).toEqual(before);
    await this.#archivedState(observer, next);
  }

  /** The session as view, manifest and objects show it, each the same as the others. */
  async #archivedState({ queue: sessions, store }: HandMadeWorker, sessionId: string) {
    const signal = new AbortController().signal;
    const view = await sessions.view(this.#ref(sessionId));
    const manifest = await readManifest(this.#ref(sessionId), store, signal);
    expect(view).toMatchObject({ state: 'archived', transcript: 'archived', attempts: 1 });
    expect(view?.error).toBeUndefined();
    expect(manifest?.transcript.state).toBe('archived');
    const upstream = this.#sandbox.session(sessionId).recordings.map((one) => one.sha256());
    expect(manifest?.recordings.map(({ sha256 }) => sha256)).toEqual(upstream);
    expect(view?.recordings?.map(({ sha256 }) => sha256)).toEqual(upstream);
    const directoryOf = manifestKey(this.#ref(sessionId)).replace('manifest.json', '');
    for (const [index, name] of RECORDINGS.entries()) {
      const bytes = await store.read(directoryOf + name, signal);
      expect(bytes && hashOf(bytes)).toBe(upstream[index]);
    }
    return { view, manifest };
  }

  async #waitFor(
    { queue: sessions }: HandMadeWorker,
    sessionId: string,
    holds: (view: SessionView) => boolean,
  ): Promise<void> {
    let view: SessionView | undefined;
    const isSo = async () => {
      view = await sessions.view(this.#ref(sessionId));
      return view !== undefined && holds(view);
    };
    await vi.waitUntil(isSo, { interval: 50, timeout: TIMEOUT_MS }).catch((error: unknown) => {
      throw new Error(`not as wanted: ${JSON.stringify(view)}`, { cause: error });
    });
  }

  #ref(sessionId: string) {
    return { sessionId, botId: this.#sandbox.botId };
  }
}

/** A worker in a process of its own that is stopped as a whole, as by a debugger, a frozen machine or a hypervisor. */
class SuspendedWorker {
  readonly #child: ChildProcess;
  #output = '';

  constructor(config: Config, kore: KoreConfig, point: string) {
    this.#child = spawn(process.execPath, [PROCESS, JSON.stringify(config), JSON.stringify(kore), point], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
        this.#child.emit('said');
      });
    }
  }

  async says(text: string): Promise<void> {
    const time = AbortSignal.timeout(TIMEOUT_MS);
    while (!this.#output.includes(text)) {
      if (this.#child.exitCode !== null) throw new Error(`it ended:\n${this.#output}`);
      await once(this.#child, 'said', { signal: time }).catch((error: unknown) => {
        throw new Error(`it did not say "${text}":\n${this.#output}`, { cause: error });
      });
    }
  }

  suspend(): void {
    this.#child.kill('SIGSTOP');
  }

  goOn(): void {
    this.#child.stdin?.write('go on\n');
    this.#child.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}
