import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Config, KoreConfig } from '../../src/config/config.ts';
import type { SessionView } from '../../src/domain/views.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { readManifest } from '../../src/storage/documents.ts';
import { manifestKey } from '../../src/storage/layout.ts';
import { hashOf } from '../support/main-setups.ts';
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
const PATIENCE_MS = 60_000;
const RECORDINGS = ['one.wav', 'two.wav'];

for (const kind of ['redis', 'postgres'] as const) {
  const missing = whyMissing(kind);
  describe.skipIf(missing !== undefined)(
    `a worker that is suspended until its lock is lost (${kind}${missing ? `: ${missing}` : ''})`,
    () => {
      let queue: TestQueue;
      let sandbox: Sandbox;
      let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
      let config: Config;
      let kore: KoreConfig;
      let suspended: SuspendedWorker | undefined;
      let other: HandMadeWorker | undefined;
      let count = 0;

      beforeAll(async () => {
        [queue, sandbox, directory] = await Promise.all([
          createTestQueue(kind),
          startSandbox(),
          temporaryDirectory(),
        ]);
      });
      afterAll(async () => {
        await Promise.all([queue.remove(), sandbox.close(), directory.remove()]);
      });
      beforeEach(() => {
        count += 1;
        const loaded = testConfig(
          { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}`, WORKER_CONCURRENCY: '1' },
          { ...queue.config, name: `owned-${count}` },
        );
        config = loaded.config;
        kore = loaded.kore;
      });
      afterEach(async () => {
        await suspended?.kill();
        await other?.stop();
        suspended = undefined;
        other = undefined;
      });

      const startOther = async () => {
        other = await startHandMadeWorker({
          config,
          kore,
          log: silent,
          tuning: SHORT_LOCKS,
          reached: async () => undefined,
        });
        return other;
      };
      const addSession = (mediaFaults: { bytesPerSecond: number }[] = []) =>
        sandbox.addSession({
          recordings: RECORDINGS.map((fileName) => ({ fileName, bytes: 200_000, mediaFaults })),
          transcription: 'pineapple umbrella',
        });
      const ref = (sessionId: string) => ({ sessionId, botId: sandbox.botId });

      /** The session as view, manifest and objects show it, each the same as the others. */
      async function archivedState({ queue: sessions, store }: HandMadeWorker, sessionId: string) {
        const signal = new AbortController().signal;
        const view = await sessions.view(ref(sessionId));
        const manifest = await readManifest(ref(sessionId), store, signal);
        expect(view).toMatchObject({ state: 'archived', transcript: 'archived', attempts: 1 });
        expect(view?.error).toBeUndefined();
        expect(manifest?.transcript.state).toBe('archived');
        const upstream = sandbox.session(sessionId).recordings.map((one) => one.sha256());
        expect(manifest?.recordings.map(({ sha256 }) => sha256)).toEqual(upstream);
        expect(view?.recordings?.map(({ sha256 }) => sha256)).toEqual(upstream);
        const directoryOf = manifestKey(ref(sessionId)).replace('manifest.json', '');
        for (const [index, name] of RECORDINGS.entries()) {
          const bytes = await store.read(directoryOf + name, signal);
          expect(bytes && hashOf(bytes)).toBe(upstream[index]);
        }
        return { view, manifest };
      }

      /** Another worker takes the session over and archives it; then the first one goes on, and finds that out. */
      async function takenOver(sessionId: string, worker: SuspendedWorker): Promise<void> {
        worker.suspend();
        const taker = await startOther();
        await waitFor(taker, sessionId, ({ state }) => state === 'archived');
        const before = await archivedState(taker, sessionId);
        worker.goOn();
        await worker.says('the lock of a job is lost');
        // It takes sessions again: whatever it had to say of the lost one is said by then.
        await taker.stop();
        other = undefined;
        const next = addSession();
        other = await openObserver(config, silent);
        await other.queue.enqueue([ref(next)]);
        await waitFor(other, next, ({ state }) => state === 'archived');
        expect(await archivedState(other, sessionId)).toEqual(before);
        await archivedState(other, next);
      }

      async function waitFor(
        { queue: sessions }: HandMadeWorker,
        sessionId: string,
        holds: (view: SessionView) => boolean,
      ): Promise<void> {
        let view: SessionView | undefined;
        const isSo = async () => {
          view = await sessions.view(ref(sessionId));
          return view !== undefined && holds(view);
        };
        await vi.waitUntil(isSo, { interval: 50, timeout: PATIENCE_MS }).catch((error: unknown) => {
          throw new Error(`not as wanted: ${JSON.stringify(view)}`, { cause: error });
        });
      }

      async function startSuspended(point: HoldPoint | 'none', sessionId: string): Promise<SuspendedWorker> {
        suspended = new SuspendedWorker(config, kore, point);
        await suspended.says('ready');
        const enqueuer = await openObserver(config, silent);
        await enqueuer.queue.enqueue([ref(sessionId)]);
        await enqueuer.stop();
        return suspended;
      }

      it('in the middle of a recording leaves the session to the one that took it', async () => {
        const sessionId = addSession([{ bytesPerSecond: 200_000 }]);
        const worker = await startSuspended('none', sessionId);
        await sandbox.waitFor((calls) => calls.some(({ bytesSent }) => bytesSent > 50_000));
        await takenOver(sessionId, worker);
      }, 120_000);

      it.each([
        ['after Kore has answered', 'answered'],
        ['after a recording', 'recording'],
        ['after the transcript, before the manifest', 'transcript'],
        ['between the look at its lock and the write of the manifest', 'manifest'],
      ] as const)(
        '%s leaves the session to the one that took it',
        async (_, point) => {
          const sessionId = addSession();
          const worker = await startSuspended(point, sessionId);
          await worker.says(`reached ${point}`);
          await takenOver(sessionId, worker);
        },
        120_000,
      );

      it('after Kore was away does not put its failure over the session that another archived', async () => {
        const sessionId = addSession();
        sandbox.session(sessionId).faults.add({ status: 503 });
        const worker = await startSuspended('answered', sessionId);
        await worker.says('reached answered');
        await takenOver(sessionId, worker);
      }, 120_000);
    },
  );
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
    const time = AbortSignal.timeout(PATIENCE_MS);
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
