import { ArchiverError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { createDownload, type Download, type Opened } from './download.ts';
import type { MediaClient } from './media-client.ts';
import type { MemoryBudget } from './memory.ts';
import { createPatience } from './patience.ts';
import type { DownloadEvents, Receiving } from './receiving.ts';
import { createReservation, type Reservation } from './reservation.ts';
import { createSignedUrl } from './signed-url.ts';
import type { Transfer, TransferRequest } from './types.ts';

/** Bounds of each transfer. */
export interface TransferLimits {
  /** Larger recordings fail with `RECORDING_TOO_LARGE`. */
  readonly maxRecordingBytes: number;
  /** First pause before trying again within a transfer (milliseconds, default 250); later ones double. */
  readonly retryPauseMs?: number;
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

/** What a download holds besides the store: chunks on their way, and the body's first and last bytes. */
const STREAM_BYTES = 256 * 1024;

/** The content type of recordings in no container that is known here. */
const UNKNOWN_CONTENT_TYPE = 'application/octet-stream';

/**
 * Creates the function that carries one recording into the archive: open it, wait for memory (the one whose
 * URL expires first goes first), download it across breaks and expired URLs, count, hash and inspect each
 * byte once as it passes, and store it whole or not at all.
 *
 * A transfer throws an `ArchiverError` with one of the `RECORDING_*` codes, `DOWNLOAD_FAILED` or what the
 * store and `refresh` throw, and the signal's own reason when aborted.
 *
 * @example
 * const media = createMediaClient({ media: config.media, idleTimeoutMs: 30_000 });
 * const memory = createMemoryBudget(256 * 1024 * 1024);
 * const transfer = createTransfer({ store, media, memory, limits: { maxRecordingBytes: 2 ** 30 }, log });
 * const { bytes, sha256 } = await transfer({ key, recording, refresh, mode: 'absent' }, signal);
 */
export function createTransfer(deps: TransferDeps): Transfer {
  const { store, media, limits, observe } = deps;

  return async (request, outerSignal) => {
    const log = deps.log.child({ key: request.key });
    const ended = new AbortController();
    const signal = AbortSignal.any([outerSignal, ended.signal]);
    const counts = { resumes: 0 };
    const signedUrl = createSignedUrl(
      request.recording,
      (refreshSignal) => request.refresh(refreshSignal),
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
      patience: createPatience(limits.retryPauseMs ?? DEFAULT_RETRY_PAUSE_MS),
      maxRecordingBytes: limits.maxRecordingBytes,
      events: downloadEvents(request, log, counts, observe),
      signal,
    });
    const reservation = createReservation(deps.memory);
    try {
      for (;;) {
        const opened = await openWithinBudget(download, reservation, store, signal);
        const secondsToExpiry = secondsLeft(opened);
        observe?.onStart?.(secondsToExpiry);
        const receiving = opened.receive();
        try {
          const contentType = await storeReceived(receiving, opened, { store, request, log, signal });
          return {
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
          if (receiving.startAnew === undefined) throw error;
        } finally {
          receiving.close();
        }
      }
    } finally {
      // Wakes up what a store that gave up first may have left waiting.
      ended.abort();
      download.close();
      reservation.release();
    }
  };
}

/**
 * Opens the recording and reserves the memory that its size needs. Where memory has to be waited for, the
 * connection is given up meanwhile: nobody keeps an idle one open for long, and the URL may expire.
 */
async function openWithinBudget(
  download: Download,
  reservation: Reservation,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Opened> {
  for (;;) {
    const opened = await download.open();
    const bytes = store.transferMemory(opened.expectedBytes) + STREAM_BYTES;
    if (reservation.tryHold(bytes)) return opened;
    opened.discard();
    await reservation.hold(bytes, opened.expiresAt, signal);
  }
}

/** Hands the bytes to the store; returns the content type they are stored with. */
async function storeReceived(
  receiving: Receiving,
  { expectedBytes, source }: Opened,
  context: Pick<TransferDeps, 'store' | 'log'> & { request: TransferRequest; signal: AbortSignal },
): Promise<string> {
  const { store, request, log, signal } = context;
  const { container } = await receiving.identify();
  if (container === undefined) {
    log.warn(
      { host: source.host },
      'the recording is in no audio container known here; archiving it as it is',
    );
  }
  const contentType = container?.contentType ?? UNKNOWN_CONTENT_TYPE;
  const body = {
    chunks: receiving.chunks,
    sha256: () => receiving.sha256(),
    ...optional('expectedBytes', expectedBytes),
  };
  await store.writeStream(request.key, body, { contentType }, request.mode, signal);
  if (!receiving.whole) {
    throw new ArchiverError('INTERNAL', 'the archive did not read the recording to its end');
  }
  return contentType;
}

function downloadEvents(
  request: TransferRequest,
  log: Logger,
  counts: { resumes: number },
  observe: TransferObserver | undefined,
): DownloadEvents {
  return {
    onBytes(count, received) {
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
