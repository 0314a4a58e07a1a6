import { VoicemailError } from '../domain/errors.ts';
import type { TransferredRecording } from '../domain/recording.ts';
import { STREAM_BYTES } from '../domain/transfer-memory.ts';
import type { KoreRecording } from '../domain/voicemail.ts';
import type { ArchiveStore, RetryWrites, WriteMode } from '../storage/store.ts';
import { abortWith } from '../util/async.ts';
import { BufferCollector } from '../util/garbage.ts';
import type { Logger } from '../util/log.ts';
import {
  createDownload,
  type Download,
  type DownloadEvents,
  type NextAttempt,
  type OpenedRecording,
  type Setback,
} from './download.ts';
import { createLeastRate } from './limits.ts';
import type { MediaClient } from './media-http.ts';
import { createReservation, type MemoryBudget, type Reservation } from './memory.ts';
import type { ResumableBody } from './resumable-body.ts';
import { createRetryPauses } from './retry-pauses.ts';
import { createSignedUrl, type SignedUrl } from './signed-url.ts';
import {
  createSlowSourceGuard,
  createStopwatch,
  type SlowSourceGuard,
  type Stopwatch,
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
  /**
   * Whether doubt about a recording is old enough to be written down. Without it (the default), a recording that may
   * be cut is downloaded a few times within seconds, and then fails with `RECORDING_TRUNCATED`, so that it is looked at
   * again later: it may still be growing. With it, what came last is archived with the integrity `suspect`, unless a
   * whole one comes. Recordings about whose end nothing is in doubt are archived either way.
   */
  readonly settleDoubt?: boolean;
  /**
   * Asked once every byte is there: `true` leaves the archive as it is, since it has them elsewhere. Then nothing is
   * downloaded once more either, only to be surer of them.
   */
  isStored?(sha256: string, bytes: number): boolean;
  /** Asked last, with how sure one can be of them: `false` leaves the archive as it is. */
  isWanted?(found: FoundRecording): boolean | Promise<boolean>;
  /** Sends to the archive what is downloaded, while that is away as well. */
  readonly persist?: RetryWrites;
  /** Called as bytes arrive with the count so far, which starts anew when a download does. */
  onProgress?(bytes: number): void;
}

/** What a download has brought. */
export type FoundRecording = Pick<TransferredRecording, 'bytes' | 'sha256' | 'integrity'>;

/** Carries one recording into the archive, whole or not at all. */
export type Transfer = (request: TransferRequest, signal: AbortSignal) => Promise<TransferredRecording>;

/** Bounds of each transfer. */
export interface TransferLimits {
  /** Larger recordings fail with `RECORDING_TOO_LARGE`. */
  readonly maxRecordingBytes: number;
  /** First pause before trying again within a transfer (milliseconds, default 250); later ones double. */
  readonly retryPauseMs?: number;
  /** How often a source's speed is checked while others wait for the memory it takes (milliseconds, default 2 s). */
  readonly slowCheckMs?: number;
  /** The least average speed of a source over the time it is waited for (bytes a second); none by default. */
  readonly minBytesPerSecond?: number;
  /** From how much waiting on that average counts (milliseconds, default 30 s). */
  readonly minRateGraceMs?: number;
}

/** Is called with what happens, for metrics. */
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
const DEFAULT_SLOW_CHECK_MS = 2000;
const DEFAULT_RATE_GRACE_MS = 30_000;

/** Enough for the collections to cost little, and little next to what the process takes anyway. */
const COLLECT_EVERY_BYTES = 16 * 1024 * 1024;

/** The content type of recordings in no container that is known here. */
const UNKNOWN_CONTENT_TYPE = 'application/octet-stream';

/** Made once, as a `DOMException` for each transfer costs more than its signals do. */
const ENDED = new Error('the transfer has ended');

/** How one attempt at a transfer ended, and so what to do next. */
type Next =
  | { readonly action: 'done'; readonly recording: TransferredRecording }
  | { readonly action: NextAttempt };

/** What the attempts of one transfer share. */
interface TransferRun {
  readonly deps: TransferDeps;
  readonly request: TransferRequest;
  readonly log: Logger;
  readonly signedUrl: SignedUrl;
  readonly download: Download;
  readonly reservation: Reservation;
  /** Runs while the source is waited for. */
  readonly waiting: Stopwatch;
  readonly counts: { resumes: number; bytes: number; yields: number };
  readonly signal: AbortSignal;
}

/**
 * Creates the function that carries one recording into the archive: open it, wait for memory (the one whose URL
 * expires first goes first, and slow sources yield), download it across breaks and expired URLs, count, hash and
 * inspect each byte once as it passes, and store it whole or not at all. The result's `integrity` says
 * how sure that is.
 *
 * A transfer throws a `VoicemailError` with one of the `RECORDING_*` codes, `DOWNLOAD_FAILED` or what the
 * store and `refresh` throw, and the signal's own reason when aborted. Failures of a media host name it as `host`.
 *
 * @example
 * const media = createMediaClient({ media: config.media, idleTimeoutMs: 30_000 });
 * const memory = createMemoryBudget(256 * 1024 * 1024);
 * const transfer = createTransfer({ store, media, memory, limits: { maxRecordingBytes: 2 ** 30 }, log });
 * const { bytes, sha256 } = await transfer({ key, recording, refresh, mode: 'absent' }, signal);
 */
export function createTransfer(deps: TransferDeps): Transfer {
  const collector = new BufferCollector(COLLECT_EVERY_BYTES);
  return async (request, outerSignal) => {
    const ended = new AbortController();
    const letGo = abortWith(ended, outerSignal);
    const run = prepareRun(deps, request, collector, ended.signal);
    try {
      for (;;) {
        const next = await attempt(run);
        if (next.action === 'done') return next.recording;
        if (next.action === 'yield') {
          run.counts.yields += 1;
          run.log.info('a slow download yields its memory to others, and begins anew later');
        }
      }
    } finally {
      // Wakes up what a store that gave up first may have left waiting.
      ended.abort(ENDED);
      letGo();
      run.download.close();
    }
  };
}

function prepareRun(
  deps: TransferDeps,
  request: TransferRequest,
  collector: BufferCollector,
  signal: AbortSignal,
): TransferRun {
  const { media, memory, limits, observe } = deps;
  const log = deps.log.child({ key: request.key });
  const counts = { resumes: 0, bytes: 0, yields: 0 };
  const waiting = createStopwatch();
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
    pauses: createRetryPauses(limits.retryPauseMs ?? DEFAULT_RETRY_PAUSE_MS),
    leastRate: createLeastRate(limits.minBytesPerSecond ?? 0, limits.minRateGraceMs ?? DEFAULT_RATE_GRACE_MS),
    waiting,
    maxRecordingBytes: limits.maxRecordingBytes,
    settleDoubt: request.settleDoubt ?? false,
    isStored: (sha256, bytes) => request.isStored?.(sha256, bytes) === true,
    events: downloadEvents(request, log, counts, collector, observe),
  });
  const reservation = createReservation(memory);
  return { deps, request, log, signedUrl, download, reservation, waiting, counts, signal };
}

async function attempt(run: TransferRun): Promise<Next> {
  const { deps, download, reservation, waiting, counts, signal } = run;
  const guard = createSlowSourceGuard({
    waiting,
    receivedBytes: () => counts.bytes,
    isWanted: () => reservation.isWanted(),
    checkMs: deps.limits.slowCheckMs ?? DEFAULT_SLOW_CHECK_MS,
    yieldsBefore: counts.yields,
    signal,
  });
  let body: ResumableBody | undefined;
  let setback: Setback | undefined;
  try {
    const opened = await openWithinBudget(run, guard);
    deps.observe?.onStart?.(secondsLeft(opened));
    body = opened.body();
    return { action: 'done', recording: await storeBody(run, body, opened, guard.signal) };
  } catch (error) {
    signal.throwIfAborted();
    setback = guard.setback ?? body?.setback;
    if (setback === undefined) throw error;
  } finally {
    guard.end();
    body?.close();
    // Opening the recording anew may take pauses and fresh metadata: nothing is held meanwhile.
    reservation.release();
  }
  return { action: await waiting.time(download.recover(setback, signal)) };
}

/**
 * Opens the recording and reserves the memory that its size needs. Where memory has to be waited for, the
 * connection is given up meanwhile: nobody keeps an idle one open for long, and the URL may expire.
 */
async function openWithinBudget(run: TransferRun, guard: SlowSourceGuard): Promise<OpenedRecording> {
  const { deps, download, reservation, waiting, counts } = run;
  for (;;) {
    const opened = await waiting.time(download.open(guard.signal));
    const bytes = deps.store.transferMemory(opened.expectedBytes) + STREAM_BYTES + opened.decodingBytes;
    const inParts = deps.store.isInParts(opened.expectedBytes);
    const request = { deadline: opened.expiresAt, slow: counts.yields > 0, inParts };
    const held = reservation.tryHold(bytes, request);
    if (!held) {
      opened.discard();
      await reservation.hold(bytes, request, guard.signal);
    }
    guard.begin();
    if (held) return opened;
  }
}

/** Hands the bytes to the store, and tells all about them. */
async function storeBody(
  run: TransferRun,
  body: ResumableBody,
  opened: OpenedRecording,
  signal: AbortSignal,
): Promise<TransferredRecording> {
  const { deps, request, log, waiting } = run;
  const began = performance.now();
  const waitedBefore = waiting.milliseconds;
  const { container } = await body.identify();
  if (container === undefined) {
    log.warn(
      { host: opened.source.host },
      'the recording is in no audio container known here; archiving it as it is',
    );
  }
  const contentType = container?.contentType ?? UNKNOWN_CONTENT_TYPE;
  const stream = {
    chunks: request.isStored || request.isWanted ? unlessLeftOut(body, request) : body,
    sha256: () => body.sha256(),
    ...optional('expectedBytes', opened.expectedBytes),
    ...optional('persist', request.persist),
  };
  let isLeftOut = false;
  try {
    await deps.store.writeStream(request.key, stream, { contentType }, request.mode, signal);
  } catch (error) {
    if (!(error instanceof LeftOut)) throw error;
    isLeftOut = true;
  }
  const { integrity } = body;
  if (integrity === undefined) {
    throw new VoicemailError('INTERNAL', 'the archive did not read the recording to its end');
  }
  if (integrity.state === 'suspect') {
    const message = isLeftOut
      ? 'the archive has what is no worse than this suspect recording, which is left out'
      : 'the recording is archived as suspect';
    log.warn({ notes: integrity.notes }, message);
  }
  const waitedForSource = waiting.milliseconds - waitedBefore;
  deps.observe?.onDone?.({
    downloadSeconds: waiting.milliseconds / 1000,
    uploadSeconds: (performance.now() - began - waitedForSource) / 1000,
  });
  return {
    integrity,
    bytes: body.receivedBytes,
    sha256: body.sha256(),
    contentType,
    ...optional('audio', body.facts),
    source: { ...opened.source, ...optional('expiresAt', isoTime(opened.expiresAt)) },
    downloadedAt: new Date().toISOString(),
    ...optional('secondsToExpiry', secondsLeft(opened)),
    urlRefreshes: run.signedUrl.refreshes,
    resumes: run.counts.resumes,
  };
}

/** Breaks off the writing of what the archive has elsewhere, or is not to have. */
class LeftOut extends Error {}

async function* unlessLeftOut(
  body: ResumableBody,
  request: Pick<TransferRequest, 'isStored' | 'isWanted'>,
): AsyncGenerator<Buffer> {
  yield* body;
  const [sha256, bytes, { integrity }] = [body.sha256(), body.receivedBytes, body];
  if (request.isStored?.(sha256, bytes)) throw new LeftOut();
  if (integrity && (await request.isWanted?.({ sha256, bytes, integrity })) === false) throw new LeftOut();
}

function downloadEvents(
  request: TransferRequest,
  log: Logger,
  counts: { resumes: number; bytes: number },
  collector: BufferCollector,
  observe: TransferObserver | undefined,
): DownloadEvents {
  return {
    onBytes(count, received) {
      counts.bytes += count;
      collector.count(count);
      observe?.onBytes?.(count);
      request.onProgress?.(received);
    },
    onResume(from, because) {
      counts.resumes += 1;
      observe?.onResume?.();
      log.info({ from, because: because.message }, 'a broken download goes on where it stopped');
    },
    onRestart(because) {
      log.info({ because: because.message }, 'a download begins anew');
    },
  };
}

function secondsLeft({ expiresAt, openedAt }: OpenedRecording): number | undefined {
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
