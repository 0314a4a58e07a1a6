/** An outage of a system that the worker depends on, from its start to the end of the last session that waited. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../src/config/config.ts';
import type { BreakerView } from '../../src/domain/views.ts';
import { openRuntime } from '../../src/runtime.ts';
import { startSandbox } from '../../src/sandbox/sandbox.ts';
import type { SandboxSettings } from '../../src/sandbox/spec.ts';
import type { S3Connection, S3TimeLimits } from '../../src/storage/s3/client.ts';
import type { Logger } from '../../src/util/log.ts';
import type { WorkerTuning } from '../../src/workers/worker-deps.ts';
import { type InjectedFault, type SeenRequest, startS3Proxy } from './s3-proxy.ts';
import { sandboxEnvironment, testConfig } from './services.ts';

/** Kinds of outages, and what happens to a request meanwhile. */
const OUTAGES = {
  'Kore answers 503': { kore: { status: 503 } },
  'Kore drops connections': { kore: { dropConnection: true } },
  'the bucket drops connections': { bucket: (): InjectedFault => 'drop request' },
  'the bucket answers 503': { bucket: (): InjectedFault => ({ status: 503, code: 'ServiceUnavailable' }) },
  'the bucket hangs': { bucket: (): InjectedFault => 'hang' },
  'the bucket refuses puts alone': {
    bucket: ({ method }: SeenRequest): InjectedFault =>
      method === 'PUT' || method === 'POST' ? { status: 403, code: 'AccessDenied' } : 'pass',
  },
} as const satisfies Record<string, Outage>;

interface Outage {
  readonly kore?: SandboxSettings['outage'];
  readonly bucket?: (request: SeenRequest) => InjectedFault;
}

export type OutageKind = keyof typeof OUTAGES;
export const OUTAGE_KINDS = Object.keys(OUTAGES) as OutageKind[];

/** How an outage is run. */
export interface OutageOptions {
  readonly kind: OutageKind;
  /** It starts while nothing runs, or while the first recordings are being downloaded. */
  readonly begins: 'quiet' | 'in the middle';
  readonly sessions: number;
  /** From the moment that the worker knows of it. */
  readonly lastsMs: number;
  /** Bytes of each recording. */
  readonly recordingBytes: number;
  readonly queue: Config['queue'];
  readonly archive: Config['archive'];
  /** Where the bucket of `archive` is. */
  readonly connection: S3Connection;
  /** How long a bucket that hangs is waited for. */
  readonly timeLimits?: Partial<S3TimeLimits>;
  readonly log: Logger;
  readonly tuning?: WorkerTuning;
}

/** What it came to. */
export interface OutageResult {
  readonly archived: number;
  readonly failed: number;
  /** Attempts of all sessions beyond the one that archived each. */
  readonly attemptsBurnt: number;
  readonly bytesStored: number;
  /** Bytes downloaded beyond those stored. */
  readonly bytesInVain: number;
  /** From the end of the outage to the last session's. */
  readonly secondsAfterEnd: number;
  /** Whether the breaker was seen open, and closed in the end. */
  readonly breakerOpened: boolean;
  readonly breakerClosed: boolean;
  /** Sessions taken while the breaker was open: more in work than when it opened. */
  readonly takenMeanwhile: number;
}

/** A poll of what the worker shows. */
const POLL_MS = 50;
const QUIET_MS = 1_000;
/** Sessions archived before, so that the worker has seen all work. */
const WARM_UP = 4;

/** Runs one. */
export async function runOutage(options: OutageOptions): Promise<OutageResult> {
  const { kind, sessions, lastsMs, recordingBytes, log, tuning } = options;
  const outage: Outage = OUTAGES[kind];
  const dependency = outage.kore ? 'kore' : 'bucket';
  const sandbox = await startSandbox();
  let isAway = false;
  const proxy = await startS3Proxy(String(options.connection.endpoint), (request) =>
    isAway && outage.bucket ? outage.bucket(request) : 'pass',
  );
  const loaded = testConfig(
    { ...sandboxEnvironment(sandbox), RETRY_DELAY: '2s', POLL_DELAY: '30s' },
    options.queue,
  );
  const config: Config = { ...loaded.config, archive: options.archive };
  const runtime = await openRuntime(config, log, {
    s3: {
      connection: { ...options.connection, endpoint: proxy.endpoint },
      ...(options.timeLimits && { timeLimits: options.timeLimits }),
    },
  });
  const worker = await runtime.startWorker(loaded.kore, undefined, tuning);
  const breaker = (): BreakerView | undefined =>
    worker.breakers().find((view) => view.dependency === dependency);
  const until = async (holds: () => boolean | Promise<boolean>): Promise<void> => {
    while (!(await holds())) await sleep(POLL_MS);
  };
  const states = async () => (await runtime.operations.stats()).states;
  const enqueue = async (count: number): Promise<string[]> => {
    const ids = Array.from({ length: count }, () =>
      sandbox.addSession({ recordings: [{ bytes: recordingBytes }], transcription: 'hello' }),
    );
    await runtime.operations.enqueue(ids.map((sessionId) => ({ sessionId, botId: sandbox.botId })));
    return ids;
  };
  try {
    await worker.ready();
    const warm = await enqueue(WARM_UP);
    await until(async () => (await states()).archived === WARM_UP);

    await sleep(QUIET_MS);
    const begin = () => {
      isAway = true;
      if (outage.kore) sandbox.configure({ outage: outage.kore });
    };
    if (options.begins === 'quiet') begin();
    const seen = sandbox.calls.length;
    const ids = await enqueue(sessions);
    if (options.begins === 'in the middle') {
      await sandbox.waitFor((calls) => calls.slice(seen).some(({ bytesSent }) => bytesSent > 0));
      begin();
    }
    await until(() => breaker()?.state === 'open');
    const { active } = await states();
    const endsAt = performance.now() + lastsMs;
    let takenMeanwhile = 0;
    while (performance.now() < endsAt) {
      takenMeanwhile = Math.max(takenMeanwhile, (await states()).active - active);
      await sleep(POLL_MS);
    }
    const breakerOpened = breaker()?.state === 'open';

    isAway = false;
    sandbox.configure({ outage: undefined });
    const endedAt = performance.now();
    await until(async () => {
      const { archived, failed } = await states();
      return archived + failed === WARM_UP + sessions;
    });
    const secondsAfterEnd = (performance.now() - endedAt) / 1000;
    const views = await Promise.all(
      [...warm, ...ids].map((sessionId) => runtime.operations.view({ sessionId, botId: sandbox.botId })),
    );
    const bytesStored = views
      .flatMap((view) => view?.recordings ?? [])
      .reduce((total, { bytes }) => total + bytes, 0);
    const downloaded = sandbox.calls
      .filter(({ route }) => route === 'media')
      .reduce((total, { bytesSent }) => total + bytesSent, 0);
    return {
      archived: views.filter((view) => view?.state === 'archived').length - WARM_UP,
      failed: views.filter((view) => view?.state === 'failed').length,
      attemptsBurnt: views.reduce((total, view) => total + Math.max(0, (view?.attempts ?? 0) - 1), 0),
      bytesStored,
      bytesInVain: downloaded - bytesStored,
      secondsAfterEnd,
      breakerOpened,
      breakerClosed: breaker()?.state === 'closed',
      takenMeanwhile,
    };
  } finally {
    await worker.stop();
    await runtime.close();
    await Promise.all([sandbox.close(), proxy.close()]);
  }
}
