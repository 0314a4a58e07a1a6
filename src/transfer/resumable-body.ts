import { createHash } from 'node:crypto';
import { isVoicemailError, systemCode, VoicemailError } from '../domain/errors.ts';
import type { AudioFacts, Integrity } from '../domain/recording.ts';
import type { Conclusion } from './audio/container.ts';
import { type BodyFormat, createInspector, type Inspector } from './audio/inspector.ts';
import { type ByteSource, type ContentCoding, decodeContent } from './content-coding.ts';
import { type LeastRate, tooLargeError } from './limits.ts';
import type { MediaResponse } from './media-http.ts';
import type { Stopwatch } from './slow-source-guard.ts';

/**
 * Why a body is not the whole recording, where another download may bring it. `broken`: the connection ended early and
 * the rest can't be asked for; `replaced`: what came as the rest belongs to other bytes; `unusable`: it is empty or no
 * audio; `doubtful`: it came to its end and more may still come; `undecodable`: its content coding could not be undone.
 */
export interface BodyFault {
  readonly kind: 'broken' | 'replaced' | 'unusable' | 'doubtful' | 'undecodable';
  readonly error: VoicemailError;
  /** What was received since the failure before. */
  readonly gainedBytes: number;
}

/** What came, once a body has ended without an error. */
export interface ReceivedBody {
  readonly bytes: number;
  /** Lowercase hex. */
  readonly sha256: string;
  /** Whether a length, the end of the chunks or a complete range says where the body ends. */
  readonly isLengthKnown: boolean;
  /** `undefined` where the bytes are in no container known here. */
  readonly conclusion: Conclusion | undefined;
}

/** What is to become of a body that has ended. */
export type BodyDecision =
  | { readonly next: 'accept'; readonly integrity: Integrity }
  | { readonly next: 'restart' | 'fail'; readonly error: VoicemailError };

/** Asked for the rest of a body that broke off. */
export interface RestRequest {
  /** The first byte that is missing. */
  readonly from: number;
  readonly validator: string;
  /** As the first answer named them: a rest that names others holds other bytes. */
  readonly codings: readonly ContentCoding[];
  /** The length of the whole body, where it is known. */
  readonly totalBytes: number | undefined;
}

/** What a body is received with. */
export interface BodyOptions {
  readonly response: MediaResponse;
  /** The whole length, where the answer states it, be it a part. */
  readonly totalBytes: number | undefined;
  /** Whether the end of this answer can be distinguished from a broken connection. */
  readonly isEndKnown: boolean;
  /** Codings to undo, if the bytes turn out to be encoded. */
  readonly codings: readonly ContentCoding[];
  readonly maxBytes: number;
  readonly leastRate: LeastRate;
  /** Runs while the source is waited for. */
  readonly waiting: Stopwatch;
  /** Breaks off everything. */
  readonly signal: AbortSignal;
  /** Bytes arrived; `received` counts them from the recording's first byte. */
  onBytes(count: number, received: number): void;
  /**
   * Asks for the rest after a break.
   * @returns `undefined` when what comes does not belong to the bytes that are there.
   * @throws VoicemailError once trying has been enough.
   */
  resume(rest: RestRequest, broken: VoicemailError, gainedBytes: number): Promise<MediaResponse | undefined>;
  accept(body: ReceivedBody): BodyDecision;
}

/**
 * One recording on its way, from its first byte, across as many connections as it takes: hashed, counted and inspected
 * as it passes, each piece once. Iterating ends only when the recording is whole; otherwise it throws, as nothing but
 * an error keeps a store from completing what it reads. `setback` then says why, where a new download may help, and
 * `Download.recover` decides what to do about it.
 */
export class ResumableBody implements AsyncIterableIterator<Buffer> {
  readonly #options: BodyOptions;
  readonly #hash = createHash('sha256');
  readonly #inspector: Inspector;
  #response: MediaResponse;
  /** What is read: the response itself, or what decodes it. */
  #source: ByteSource;
  #isDecoded = false;
  /** Read by `identify` and not handed on yet; the first comes last. */
  readonly #early: Buffer[] = [];
  #receivedBytes = 0;
  #receivedAtLastFailure = 0;
  #totalBytes: number | undefined;
  #wireBytes = 0;
  /** A failure that no other download can fix, thrown from within a decoder. */
  #fatal: VoicemailError | undefined;
  #setback: BodyFault | undefined;
  #integrity: Integrity | undefined;

  constructor(options: BodyOptions) {
    this.#options = options;
    this.#response = options.response;
    this.#source = this.#metered();
    this.#totalBytes = options.totalBytes;
    this.#inspector = createInspector(options.response.contentType);
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** Why it ended without being whole, where a new download may help. */
  get setback(): BodyFault | undefined {
    return this.#setback;
  }

  /** Set once all bytes have been handed on and accepted. */
  get integrity(): Integrity | undefined {
    return this.#early.length === 0 ? this.#integrity : undefined;
  }

  get facts(): AudioFacts | undefined {
    return this.#inspector.conclude()?.facts;
  }

  /** Lowercase hex of all bytes received so far. */
  sha256(): string {
    return this.#hash.copy().digest('hex');
  }

  /** Reads the first bytes and tells what they are; they are handed on all the same. */
  async identify(): Promise<BodyFormat> {
    await this.#options.waiting.time(this.#readHead());
    const identity = this.#inspector.identify();
    if (identity.document === undefined) return identity;
    const { host } = this.#response;
    const what = identity.document === 'text' ? 'text' : `${identity.document} document`;
    const message = `${host} sent a ${what} in place of the recording`;
    throw this.#fail(
      'unusable',
      new VoicemailError('RECORDING_NOT_AUDIO', message, { retryable: true, host }),
    );
  }

  async next(): Promise<IteratorResult<Buffer, undefined>> {
    const early = this.#early.pop();
    if (early !== undefined) return { done: false, value: early };
    if (this.#integrity !== undefined) return { done: true, value: undefined };
    const chunk = await this.#options.waiting.time(this.#receive());
    return chunk === undefined ? { done: true, value: undefined } : { done: false, value: chunk };
  }

  async return(): Promise<IteratorResult<Buffer, undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Releases the connection. */
  close(): void {
    this.#source.discard();
  }

  async #readHead(): Promise<void> {
    const { codings } = this.#options;
    if (codings.length > 0) await this.#decode(codings);
    while (!this.#inspector.headIsComplete) {
      const chunk = await this.#receive();
      if (chunk === undefined) break;
      this.#early.push(chunk);
    }
    this.#early.reverse();
  }

  async #decode(codings: readonly ContentCoding[]): Promise<void> {
    try {
      const decoded = await decodeContent(this.#source, codings);
      this.#source = decoded.source;
      this.#isDecoded = decoded.isDecoded;
      if (decoded.isDecoded) this.#totalBytes = undefined;
    } catch (error) {
      this.#options.signal.throwIfAborted();
      throw this.#fatal ?? this.#fail('broken', this.#asBreak(error));
    }
  }

  /** The next bytes; `undefined` once the recording is whole and accepted. */
  async #receive(): Promise<Buffer | undefined> {
    for (;;) {
      let broken: VoicemailError;
      try {
        const chunk = await this.#source.read();
        if (chunk !== undefined) return this.#take(chunk);
        if (this.#isAllThere()) return this.#finish();
        broken = this.#endedEarly();
      } catch (error) {
        if (this.#setback !== undefined || this.#fatal !== undefined) throw this.#fatal ?? error;
        this.#options.signal.throwIfAborted();
        broken = this.#asBreak(error);
      }
      this.close();
      // The end of a rest may be lost when all that was promised is there.
      if (this.#totalBytes !== undefined && this.#receivedBytes === this.#totalBytes) return this.#finish();
      await this.#resume(broken);
    }
  }

  #take(chunk: Buffer): Buffer {
    this.#receivedBytes += chunk.length;
    if (this.#receivedBytes > this.#options.maxBytes) throw this.#tooLarge();
    if (this.#receivedBytes > (this.#totalBytes ?? Number.POSITIVE_INFINITY)) {
      const { host } = this.#response;
      const message = `${host} sent more than the ${this.#totalBytes} bytes that it had named`;
      throw this.#fail('replaced', new VoicemailError('RECORDING_TRUNCATED', message, { host }));
    }
    this.#hash.update(chunk);
    this.#inspector.add(chunk);
    this.#options.onBytes(chunk.length, this.#receivedBytes);
    return chunk;
  }

  /** Whether a body that ended without an error is all there is, as far as HTTP tells. */
  #isAllThere(): boolean {
    if (this.#totalBytes !== undefined) return this.#receivedBytes === this.#totalBytes;
    // A broken connection may end such a body without an error, before its first byte.
    return this.#options.isEndKnown || this.#receivedBytes > 0;
  }

  #finish(): undefined {
    if (this.#receivedBytes === 0) {
      const { host } = this.#response;
      const error = new VoicemailError('RECORDING_EMPTY', 'the recording has no bytes', {
        retryable: true,
        host,
      });
      throw this.#fail('unusable', error);
    }
    const acceptance = this.#options.accept({
      bytes: this.#receivedBytes,
      sha256: this.sha256(),
      isLengthKnown: this.#options.isEndKnown || this.#totalBytes !== undefined,
      conclusion: this.#inspector.conclude(),
    });
    if (acceptance.next !== 'accept') {
      const { next, error } = acceptance;
      throw next === 'restart' ? this.#fail('doubtful', error) : this.#giveUp(error);
    }
    this.#integrity = acceptance.integrity;
    this.close();
    return undefined;
  }

  async #resume(broken: VoicemailError): Promise<void> {
    const gainedBytes = this.#receivedBytes - this.#receivedAtLastFailure;
    const from = this.#receivedBytes;
    const { validator, codings } = this.#options.response;
    // A range of encoded bytes can't be put behind decoded ones.
    if (validator === undefined || from === 0 || this.#isDecoded) throw this.#fail('broken', broken);
    const rest = await this.#options.resume(
      { from, validator, codings, totalBytes: this.#totalBytes },
      broken,
      gainedBytes,
    );
    if (rest === undefined) throw this.#fail('replaced', broken);
    this.#response = rest;
    this.#source = this.#metered();
    this.#totalBytes ??= rest.range?.total;
    this.#receivedAtLastFailure = from;
    if ((this.#totalBytes ?? 0) > this.#options.maxBytes) throw this.#tooLarge();
  }

  /** The response, with its speed and size watched. */
  #metered(): ByteSource {
    const { leastRate, maxBytes } = this.#options;
    const response = this.#response;
    return {
      read: async () => {
        const askedAt = performance.now();
        const chunk = await response.read();
        if (chunk === undefined) return undefined;
        this.#wireBytes += chunk.length;
        const tooSlow = leastRate.count(response.host, chunk.length, performance.now() - askedAt);
        if (tooSlow !== undefined) throw this.#giveUp(tooSlow);
        // Decoders may swallow any number of bytes without a word.
        if (this.#wireBytes - this.#receivedBytes > maxBytes) throw this.#tooLarge();
        return chunk;
      },
      discard: () => response.discard(),
    };
  }

  #tooLarge(): VoicemailError {
    return this.#giveUp(tooLargeError(this.#options.maxBytes));
  }

  #giveUp(error: VoicemailError): VoicemailError {
    this.#fatal = error;
    this.close();
    return error;
  }

  #fail(kind: BodyFault['kind'], error: VoicemailError): VoicemailError {
    this.#setback = { kind, error, gainedBytes: this.#receivedBytes - this.#receivedAtLastFailure };
    this.close();
    return error;
  }

  /** @returns the failure to recover from; throws what is none. */
  #asBreak(error: unknown): VoicemailError {
    const { host } = this.#response;
    if (isVoicemailError(error, 'RECORDING_TRUNCATED') || isVoicemailError(error, 'DOWNLOAD_FAILED')) {
      const message = `${error.message}, after ${this.#progress()}`;
      return new VoicemailError(error.code, message, { cause: error.cause, host });
    }
    // Decoders name what is wrong with the bytes by a code; what has none is a fault of this program.
    if (!this.#isDecoded || isVoicemailError(error) || systemCode(error) === undefined) throw error;
    const message = `the content coding of ${host}'s answer could not be undone after ${this.#progress()}`;
    throw this.#fail(
      'undecodable',
      new VoicemailError('RECORDING_TRUNCATED', message, { cause: error, host }),
    );
  }

  /** The failure of a body that ended without an error and is not whole. */
  #endedEarly(): VoicemailError {
    const { host } = this.#response;
    if (this.#receivedBytes === 0 && this.#totalBytes === undefined) {
      const message = `${host} sent no bytes before it closed the connection`;
      return new VoicemailError('RECORDING_EMPTY', message, { retryable: true, host });
    }
    const message = `${host} ended the recording after ${this.#progress()}`;
    return new VoicemailError('RECORDING_TRUNCATED', message, { host });
  }

  #progress(): string {
    return `${this.#receivedBytes} of ${this.#totalBytes ?? 'an unknown number of'} bytes`;
  }
}
