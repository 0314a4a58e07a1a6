import { createHash } from 'node:crypto';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import type { Conclusion } from './audio/container.ts';
import { createInspector, type Identity, type Inspector } from './audio/inspector.ts';
import type { MediaResponse } from './media-http.ts';
import type { Requester, RetryPauses } from './media-request.ts';
import type { SignedUrl } from './signed-url.ts';

/** What happens during a download, for logs and metrics. */
export interface DownloadEvents {
  /** Bytes arrived; `received` counts them from the recording's first byte. */
  onBytes(count: number, received: number): void;
  /** A broken download goes on where it stopped. */
  onResume(from: number, because: VoicemailError): void;
  /** A download cannot go on and begins anew. */
  onStartAnew(because: VoicemailError): void;
}

/** What receiving works with. */
export interface ReceiveOptions {
  readonly signedUrl: SignedUrl;
  readonly patience: RetryPauses;
  readonly maxRecordingBytes: number;
  readonly events: DownloadEvents;
}

/** A recording on its way, from its first byte. */
export interface ResumableBody {
  /** Reads the first bytes and tells what they are; they are part of `chunks` all the same. */
  identify(): Promise<Identity>;
  /**
   * All bytes, across as many connections as it takes. Ends only when the recording is whole.
   * @throws StartAnew when it has to be received from its first byte again.
   */
  readonly chunks: AsyncIterable<Buffer>;
  readonly receivedBytes: number;
  /** Whether all bytes have been handed on and found to be the whole recording. */
  readonly whole: boolean;
  /** Why it had to begin anew, if that is how it ended. */
  readonly startAnew: Restart | undefined;
  /** Lowercase hex of all bytes so far. */
  sha256(): string;
  conclude(): Conclusion | undefined;
  /** Lets go of the connection. */
  close(): void;
}

/** Not a failure: what was received cannot be continued, so whoever took it in has to drop it. */
export class Restart extends Error {
  constructor(because: VoicemailError) {
    super('the download has to begin anew', { cause: because });
    this.name = 'StartAnew';
  }
}

/**
 * Receives the recording that `first` is the answer with. What comes in place of a rest and is the whole
 * recording instead is handed to `keepWhole`, to begin anew with.
 */
export function openResumableBody(
  first: MediaResponse,
  request: Requester,
  options: ReceiveOptions,
  signal: AbortSignal,
  keepWhole: (response: MediaResponse) => void,
): ResumableBody {
  const { signedUrl, patience, maxRecordingBytes, events } = options;
  const hash = createHash('sha256');
  const inspector = createInspector(first.contentType);
  /** Read for `identify` and not handed on yet. */
  let early = Buffer.alloc(0);
  let response = first;
  let receivedBytes = 0;
  let totalBytes = first.contentLength;
  let startAnew: Restart | undefined;
  let whole = false;
  const stream = receiveAll();

  function beginAnew(because: VoicemailError): Restart {
    patience.beforeStartingAnew(because);
    events.onStartAnew(because);
    startAnew = new Restart(because);
    return startAnew;
  }

  /** Perhaps a glitch: fresh metadata and another try, unless there have been enough of them. */
  async function rejectAsUnusable(error: VoicemailError): Promise<never> {
    response.discard();
    await patience.afterUnusable(error, signal);
    await signedUrl.renew(error, signal);
    throw beginAnew(error);
  }

  async function* receiveAll(): AsyncGenerator<Buffer, void, void> {
    for (;;) {
      const startedAt = receivedBytes;
      let broken: VoicemailError;
      try {
        for await (const chunk of response.body) {
          receivedBytes += chunk.length;
          assertSize(receivedBytes, maxRecordingBytes);
          if (totalBytes !== undefined && receivedBytes > totalBytes) break;
          hash.update(chunk);
          inspector.add(chunk);
          events.onBytes(chunk.length, receivedBytes);
          yield chunk;
        }
        if (isComplete(response, receivedBytes, totalBytes, inspector)) break;
        broken = endedEarly(response.host, receivedBytes, totalBytes);
      } catch (error) {
        signal.throwIfAborted();
        broken = asBreak(error, receivedBytes, totalBytes);
      } finally {
        response.discard();
      }
      // The end of a rest may be lost when all that was promised is there.
      if (receivedBytes === totalBytes) break;
      await patience.afterFailure(broken, receivedBytes - startedAt, signal);
      response = await resume(broken);
      assertSize(totalBytes, maxRecordingBytes);
    }
    await assertUsable();
    whole = true;
  }

  /** Asks for the rest; what comes must verifiably belong to what is already there. */
  async function resume(broken: VoicemailError): Promise<MediaResponse> {
    const { validator } = first;
    if (validator === undefined || receivedBytes === 0 || receivedBytes > (totalBytes ?? Infinity)) {
      throw beginAnew(broken);
    }
    const rest = await request({ from: receivedBytes, validator }, signal);
    const total = rest.range?.total ?? totalBytes;
    const belongs =
      rest.status === 206 &&
      rest.range?.from === receivedBytes &&
      provesSame(rest.validator, validator) &&
      rest.contentEncoding === undefined &&
      total !== undefined &&
      (totalBytes === undefined || total === totalBytes);
    if (belongs) {
      totalBytes = total;
      events.onResume(receivedBytes, broken);
      return rest;
    }
    if (rest.status === 200 || rest.status === 203) keepWhole(rest);
    else rest.discard();
    throw beginAnew(broken);
  }

  async function assertUsable(): Promise<void> {
    if (receivedBytes === 0) {
      await rejectAsUnusable(new VoicemailError('RECORDING_EMPTY', 'the recording has no bytes'));
    }
    if (inspector.conclude()?.end === 'missing') {
      const message = `the recording ends after ${receivedBytes} bytes, earlier than its own header says`;
      await rejectAsUnusable(new VoicemailError('RECORDING_TRUNCATED', message));
    }
  }

  async function* chunks(): AsyncGenerator<Buffer, void, void> {
    try {
      const head = early;
      early = Buffer.alloc(0);
      if (head.length > 0) yield head;
      yield* stream;
    } finally {
      response.discard();
    }
  }

  return {
    async identify() {
      const read: Buffer[] = [early];
      while (!inspector.headIsComplete) {
        const next = await stream.next();
        if (next.done === true) break;
        read.push(next.value);
      }
      early = Buffer.concat(read);
      const identity = inspector.identify();
      if (identity.document !== undefined) {
        const what = identity.document === 'text' ? 'text' : `${identity.document} document`;
        const message = `${response.host} sent a ${what} in place of the recording`;
        await rejectAsUnusable(new VoicemailError('RECORDING_NOT_AUDIO', message));
      }
      return identity;
    },
    chunks: { [Symbol.asyncIterator]: chunks },
    get receivedBytes() {
      return receivedBytes;
    },
    get whole() {
      return whole && early.length === 0;
    },
    get startAnew() {
      return startAnew;
    },
    sha256: () => hash.copy().digest('hex'),
    conclude: () => inspector.conclude(),
    close: () => response.discard(),
  };
}

/**
 * Whether a rest that was asked for under a validator is one of the same body. A date need not be repeated, since
 * the server has checked it: https://www.rfc-editor.org/rfc/rfc9110#section-15.3.7
 */
function provesSame(received: string | undefined, sent: string): boolean {
  return received === sent || (received === undefined && !sent.startsWith('"'));
}

/** @throws VoicemailError `RECORDING_TOO_LARGE` for more bytes than are allowed. */
export function assertSize(bytes: number | undefined, maxRecordingBytes: number): void {
  if (bytes === undefined || bytes <= maxRecordingBytes) return;
  throw new VoicemailError(
    'RECORDING_TOO_LARGE',
    `the recording is larger than the ${maxRecordingBytes} bytes that MAX_RECORDING_BYTES allows`,
  );
}

/**
 * Whether a body that ended without an error is all there is. A body that ended by closing the connection is
 * whole only if the container itself confirms it.
 */
function isComplete(
  { delimiter }: MediaResponse,
  receivedBytes: number,
  totalBytes: number | undefined,
  inspector: Inspector,
): boolean {
  if (totalBytes !== undefined) return receivedBytes === totalBytes;
  if (delimiter !== 'close') return true;
  // An error page is refused as such, however it ends.
  return inspector.conclude()?.end === 'confirmed' || inspector.identify().document !== undefined;
}

/** @returns the failure to recover from; throws what is none. */
function asBreak(error: unknown, receivedBytes: number, totalBytes: number | undefined): VoicemailError {
  const isBreak =
    isVoicemailError(error, 'RECORDING_TRUNCATED') || isVoicemailError(error, 'DOWNLOAD_FAILED');
  if (!isBreak) throw error;
  const message = `${error.message}, after ${progress(receivedBytes, totalBytes)}`;
  return new VoicemailError(error.code, message, { cause: error.cause });
}

/**
 * The failure of a body that ended without an error and is not whole. One without a length that has no bytes
 * may be a broken connection (undici ends such a body when the connection is reset), so it may pass.
 */
function endedEarly(host: string, receivedBytes: number, totalBytes: number | undefined): VoicemailError {
  if (receivedBytes === 0 && totalBytes === undefined) {
    return new VoicemailError('RECORDING_EMPTY', `${host} sent no bytes before it closed the connection`, {
      retryable: true,
    });
  }
  return new VoicemailError(
    'RECORDING_TRUNCATED',
    `${host} ended the recording after ${progress(receivedBytes, totalBytes)}`,
  );
}

function progress(receivedBytes: number, totalBytes: number | undefined): string {
  return `${receivedBytes} of ${totalBytes ?? 'an unknown number of'} bytes`;
}
