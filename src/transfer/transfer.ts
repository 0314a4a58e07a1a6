import { VoicemailError } from '../domain/errors.ts';
import type { TransferredRecording } from '../domain/recording.ts';
import { STREAM_BYTES } from '../domain/transfer-memory.ts';
import type { KoreRecording } from '../domain/voicemail.ts';
import type { ArchiveStore, WriteMode } from '../storage/store.ts';
import type { Logger } from '../util/log.ts';
import { createDownload, type Download, type Opened } from './download.ts';
import type { MediaClient } from './media-http.ts';
import { createRetryPauses } from './media-request.ts';
import { createReservation, type MemoryBudget, type Reservation } from './memory.ts';
import type { DownloadEvents, ResumableBody } from './resumable-body.ts';
import { createSignedUrl } from './signed-url.ts';
import {
  createSlowSourceGuard,
  createStopwatch,
  type SlowSourceGuard,
  type Stopwatch,
  timed,
} from './slow-source-guard.ts';

/** One recording to be carried into the archive. */
interface TransferRequest {
  /** Relative key in the archive. */
  readonly key: string;
  readonly recording: KoreRecording;
  /**
   * Fetches the session's metadata anew and returns the same recording with a fresh URL.
   * @throws VoicemailError when it can't be had, or is no longer there.
   */
  refresh(signal: AbortSignal): Promise<KoreRecording>;
  readonly mode: WriteMode;
  /** Called as bytes arrive with the count so far, which starts anew when a download does. */
  onProgress?(bytes: number): void;
}

/** Carries one recording into the archive, whole or not at all. */
export type Transfer = (request: TransferRequest, signal: AbortSignal) => Promise<TransferredRecording>;

/** Bounds of each transfer. */
export interface TransferLimits {
  /** Larger recordings fail with `RECORDING_TOO_LARGE`. */
  readonly maxRecordingBytes: number;
  /** First pause before trying again within a transfer (milliseconds, default 250); later ones double. */
  readonly retryPauseMs?: number;
  /** How often a source is looked at while others wait for the memory it takes (milliseconds, default 2 s). */
  readonly slowLookMs?: number;
}

/** Told of what happens, for metrics. */
export interface TransferObserver {
  /** A download began, with so many seconds left until its URL's expiry where that is known. */
  onStart?(secondsToExpiry: number | undefined): void;
  /** So many bytes were received, those of broken and repeated downloads included. */
  onBytes?(count: number): void;
  /** A broken download went on with a range. */
  onResume?(): void;
  /** Fresh metadata was fetched: a URL had expired, was refused, or led to something unusable. */
  onUrlRefresh?(): void;
  /** A recording is in the archive. */
  onDone?(times: TransferTimes): void;
}

/** Where the time of one recording's transfer went; waiting for memory is in neither. */
export interface TransferTimes {
  /** Waiting for the source: connecting, answers, bytes, pauses before a download goes on. */
  readonly downloadSeconds: number;
  /** Waiting for the archive: until it takes more bytes, and until the recording is stored. */
  readonly uploadSeconds: number;
}

/** What transfers work with. */
export interface TransferDeps {
  readonly store: ArchiveStore;
  readonly media: MediaClient;
  readonly memory: MemoryBudget;
  readonly limits: TransferLimits;
  readonly log: Logger;
  readonly observe?: TransferObserver;
}

const DEFAULT_RETRY_PAUSE_MS = 250;
const DEFAULT_SLOW_LOOK_MS = 2000;

/** The content type of recordings in no container that is known here. */
const UNKNOWN_CONTENT_TYPE = 'application/octet-stream';

/**
 * Creates the function that carries one recording into the archive: open it, wait for memory (the one whose
 * URL expires first goes first, and slow sources give way), download it across breaks and expired URLs, count, hash and inspect each
 * byte once as it passes, and store it whole or not at all.
 *
 * A transfer throws an `VoicemailError` with one of the `RECORDING_*` codes, `DOWNLOAD_FAILED` or what the
 * store and `refresh` throw, and the signal's own reason when aborted.
 *
 * @example
 * const media = createMediaClient({ media: config.media, idleTimeoutMs: 30_000 });
 * const memory = createMemoryBudget(256 * 1024 * 1024);
 * const transfer = createTransfer({ store, media, memory, limits: { maxRecordingBytes: 2 ** 30 }, log });
 * const { bytes, sha256 } = await transfer({ key, recording, refresh, mode: 'absent' }, signal);
 */
export function createTransfer(deps: TransferDeps): Transfer {
  const { store, media, memory, limits, observe } = deps;

  return async (request, outerSignal) => {
    const log = deps.log.child({ key: request.key });
    const ended = new AbortController();
    const signal = AbortSignal.any([outerSignal, ended.signal]);
    const counts = { resumes: 0, bytes: 0, gaveWay: 0 };
    const signedUrl = createSignedUrl(
      request.recording,
      () => request.refresh(signal),
      ({ alreadyExpired }) => {
        observe?.onUrlRefresh?.();
        if (alreadyExpired) {
          log.warn("a fresh URL has already expired; trying it: is this machine's clock right?");
        }
      },
    );
    const download = createDownload({
      media,
      signedUrl,
      patience: createRetryPauses(limits.retryPauseMs ?? DEFAULT_RETRY_PAUSE_MS),
      maxRecordingBytes: limits.maxRecordingBytes,
      events: downloadEvents(request, log, counts, observe),
    });
    const reservation = createReservation(memory);
    const downloading = createStopwatch();
    try {
      for (;;) {
        const turn = createSlowSourceGuard({
          waiting: downloading,
          receivedBytes: () => counts.bytes,
          isWanted: () => memory.waiting > 0,
          lookMs: limits.slowLookMs ?? DEFAULT_SLOW_LOOK_MS,
          gaveWayBefore: counts.gaveWay,
          signal,
        });
        let receiving: ResumableBody | undefined;
        try {
          const slow = counts.gaveWay > 0;
          const opened = await openWithinBudget({ download, reservation, store, downloading, slow }, turn);
          const secondsToExpiry = secondsLeft(opened);
          observe?.onStart?.(secondsToExpiry);
          receiving = opened.receive();
          const began = performance.now();
          const waitedBefore = downloading.milliseconds;
          const context = { store, request, log, downloading, signal: turn.signal };
          const contentType = await storeReceived(receiving, opened, context);
          const waitedForSource = downloading.milliseconds - waitedBefore;
          observe?.onDone?.({
            downloadSeconds: downloading.milliseconds / 1000,
            uploadSeconds: (performance.now() - began - waitedForSource) / 1000,
          });
          return {
            integrity: { state: receiving.conclude() ? 'verified' : 'suspect', notes: [] },
            bytes: receiving.receivedBytes,
            sha256: receiving.sha256(),
            contentType,
            ...optional('audio', receiving.conclude()?.facts),
            source: { ...opened.source, ...optional('expiresAt', isoTime(opened.expiresAt)) },
            downloadedAt: new Date().toISOString(),
            ...optional('secondsToExpiry', secondsToExpiry),
            urlRefreshes: signedUrl.refreshes,
            resumes: counts.resumes,
          };
        } catch (error) {
          outerSignal.throwIfAborted();
          if (turn.gaveWay) {
            counts.gaveWay += 1;
            download.close();
            log.info('a slow download gives way to those that wait for memory, and begins anew later');
          } else if (receiving?.startAnew === undefined) {
            throw error;
          }
        } finally {
          turn.end();
          receiving?.close();
          // Opening the recording anew may take pauses and fresh metadata: nothing is held meanwhile.
          reservation.release();
        }
      }
    } finally {
      // Wakes up what a store that gave up first may have left waiting.
      ended.abort();
      download.close();
    }
  };
}

/**
 * Opens the recording and reserves the memory that its size needs. Where memory has to be waited for, the
 * connection is given up meanwhile: nobody keeps an idle one open for long, and the URL may expire.
 */
async function openWithinBudget(
  attempt: {
    readonly download: Download;
    readonly reservation: Reservation;
    readonly store: ArchiveStore;
    readonly downloading: Stopwatch;
    readonly slow: boolean;
  },
  turn: SlowSourceGuard,
): Promise<Opened> {
  const { download, reservation, store, downloading, slow } = attempt;
  for (;;) {
    const opened = await downloading.time(download.open(turn.signal));
    const bytes = store.transferMemory(opened.expectedBytes) + STREAM_BYTES;
    const request = { deadline: opened.expiresAt, slow };
    const held = reservation.tryHold(bytes, request);
    if (!held) {
      opened.discard();
      await reservation.hold(bytes, request, turn.signal);
    }
    turn.begin();
    if (held) return opened;
  }
}

/** Hands the bytes to the store; returns the content type they are stored with. */
async function storeReceived(
  receiving: ResumableBody,
  { expectedBytes, source }: Opened,
  context: Pick<TransferDeps, 'store' | 'log'> & {
    request: TransferRequest;
    downloading: Stopwatch;
    signal: AbortSignal;
  },
): Promise<string> {
  const { store, request, log, downloading, signal } = context;
  const { container } = await downloading.time(receiving.identify());
  if (container === undefined) {
    log.warn(
      { host: source.host },
      'the recording is in no audio container known here; archiving it as it is',
    );
  }
  const contentType = container?.contentType ?? UNKNOWN_CONTENT_TYPE;
  const body = {
    chunks: timed(receiving.chunks, downloading),
    sha256: () => receiving.sha256(),
    ...optional('expectedBytes', expectedBytes),
  };
  await store.writeStream(request.key, body, { contentType }, request.mode, signal);
  if (!receiving.whole) {
    throw new VoicemailError('INTERNAL', 'the archive did not read the recording to its end');
  }
  return contentType;
}

function downloadEvents(
  request: TransferRequest,
  log: Logger,
  counts: { resumes: number; bytes: number },
  observe: TransferObserver | undefined,
): DownloadEvents {
  return {
    onBytes(count, received) {
      counts.bytes += count;
      observe?.onBytes?.(count);
      request.onProgress?.(received);
    },
    onResume(from, because) {
      counts.resumes += 1;
      observe?.onResume?.();
      log.info({ from, because: because.message }, 'a broken download goes on where it stopped');
    },
    onStartAnew(because) {
      log.info({ because: because.message }, 'a download begins anew');
    },
  };
}

function secondsLeft({ expiresAt, openedAt }: Opened): number | undefined {
  return expiresAt === undefined ? undefined : (expiresAt - openedAt) / 1000;
}

function isoTime(unixMs: number | undefined): string | undefined {
  return unixMs === undefined ? undefined : new Date(unixMs).toISOString();
}

/** A property that is left out where there is no value for it. */
function optional<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): { [Key in Name]?: Value } {
  return value === undefined ? {} : ({ [name]: value } as { [Key in Name]: Value });
}
