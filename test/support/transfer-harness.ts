import type { TransferredRecording } from '../../src/domain/recording.ts';
import type { ArchiveStore, WriteMode } from '../../src/storage/store.ts';
import { createMediaClient, type MediaClient } from '../../src/transfer/media-http.ts';
import { createMemoryBudget, type MemoryBudget } from '../../src/transfer/memory.ts';
import type { Resolve } from '../../src/transfer/ssrf.ts';
import { createTransfer, type Transfer, type TransferObserver } from '../../src/transfer/transfer.ts';
import type { ProxySettings } from '../../src/util/http-proxy.ts';
import { createLogger } from '../../src/util/log.ts';

/** Settings that make transfers quick to fail. */
export interface TransferSetup {
  readonly hosts?: readonly string[];
  readonly allowPrivate?: boolean;
  readonly resolve?: Resolve;
  readonly idleTimeoutMs?: number;
  readonly maxRecordingBytes?: number;
  readonly memoryBytes?: number;
  readonly slowCheckMs?: number;
  readonly minBytesPerSecond?: number;
  readonly minRateGraceMs?: number;
  readonly privateHosts?: readonly string[];
  readonly proxy?: ProxySettings;
  readonly observe?: TransferObserver;
}

/** One transfer to run. */
export interface TransferRun {
  readonly key: string;
  /** The URL at first, and then one for each refresh; the last one stays. */
  readonly urls: readonly string[];
  readonly mode?: WriteMode;
  readonly settleDoubt?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (bytes: number) => void;
}

/** A transfer function with what it was made of. */
export interface TransferHarness {
  readonly memory: MemoryBudget;
  readonly media: MediaClient;
  /** Lines logged so far. */
  readonly lines: readonly string[];
  readonly transfer: Transfer;
  run(run: TransferRun): Promise<TransferredRecording>;
  close(): Promise<void>;
}

/** Everything real: sockets, files, buckets. Only the pauses between tries are short. */
export function createHarness(store: ArchiveStore, setup: TransferSetup = {}): TransferHarness {
  const lines: string[] = [];
  const memory = createMemoryBudget(setup.memoryBytes ?? 64 * 1024 * 1024);
  const media = createMediaClient({
    media: {
      hosts: setup.hosts ?? ['127.0.0.1', 'media.test'],
      allowPrivate: setup.allowPrivate ?? true,
      privateHosts: setup.privateHosts ?? [],
      proxy: setup.proxy,
    },
    idleTimeoutMs: setup.idleTimeoutMs ?? 10_000,
    resolve: setup.resolve ?? (async () => [{ address: '127.0.0.1', family: 4 }]),
  });
  const transfer = createTransfer({
    store,
    media,
    memory,
    limits: {
      maxRecordingBytes: setup.maxRecordingBytes ?? 2 ** 30,
      retryPauseMs: 1,
      ...(setup.slowCheckMs === undefined ? {} : { slowCheckMs: setup.slowCheckMs }),
      minBytesPerSecond: setup.minBytesPerSecond ?? 0,
      minRateGraceMs: setup.minRateGraceMs ?? 0,
    },
    log: createLogger('trace', (line) => lines.push(line)),
    ...(setup.observe ? { observe: setup.observe } : {}),
  });
  return {
    memory,
    media,
    lines,
    transfer,
    run({
      key,
      urls,
      mode = 'absent',
      settleDoubt = false,
      signal = new AbortController().signal,
      onProgress,
    }) {
      let used = 0;
      const recordingAt = (index: number) => ({
        fileName: 'voicemail.wav',
        fileUrl: urls[Math.min(index, urls.length - 1)] ?? '',
      });
      return transfer(
        {
          key,
          recording: recordingAt(0),
          refresh: async () => recordingAt(++used),
          mode,
          settleDoubt,
          ...(onProgress ? { onProgress } : {}),
        },
        signal,
      );
    },
    close: () => media.close(),
  };
}
