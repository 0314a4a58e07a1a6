/**
 * HTTP requests that are in memory and whose answers are read as a whole. Without a stream on either side, one costs a
 * third of the CPU time of undici's `request`.
 */

import type { IncomingHttpHeaders } from 'node:http';
import { type Dispatcher, errors } from 'undici';

export type { Dispatcher } from 'undici';

/** What is sent. */
export interface HttpRequest {
  readonly origin: string;
  readonly method: 'GET' | 'PUT' | 'POST';
  /** Path and query, percent-encoded. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** What an answer may take. */
export interface AnswerLimits {
  readonly maxBytes: number;
  /** Milliseconds for everything together, so that no drip of bytes holds a request for ever. */
  readonly totalTimeoutMs: number;
}

/** An answer, read to its end. */
export interface HttpAnswer {
  readonly status: number;
  /** Names in lowercase. */
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** Thrown by {@link exchange} for an answer of more than `maxBytes`. */
export class AnswerTooLarge extends Error {
  constructor(maxBytes: number) {
    super(`the answer has more than ${maxBytes} bytes`);
    this.name = 'AnswerTooLarge';
  }
}

/** Thrown by {@link exchange} when an answer was not complete in time. */
export class AnswerTooLate extends Error {
  constructor(milliseconds: number) {
    super(`the answer was not complete after ${milliseconds} ms`);
    this.name = 'TimeoutError';
  }
}

/**
 * Whether a request failed because what came is no HTTP/1.1. Such an error holds the bytes that were not understood, a
 * signed URL perhaps: it must not be passed on as a cause.
 */
export function isNotHttp(error: unknown): boolean {
  return error instanceof errors.HTTPParserError;
}

/**
 * Sends a request and reads the whole answer, whatever its status. Follows no redirects.
 *
 * @throws AnswerTooLarge, AnswerTooLate; undici's errors; the signal's reason when aborted. The connection of a request
 * that failed is closed.
 */
export async function exchange(
  dispatcher: Dispatcher,
  request: HttpRequest,
  limits: AnswerLimits,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const collector = new AnswerCollector(limits, (error, answer) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      if (answer) resolve(answer);
      else reject(error);
    });
    const onAbort = () => collector.abort(signal.reason);
    const timer = setTimeout(
      () => collector.abort(new AnswerTooLate(limits.totalTimeoutMs)),
      limits.totalTimeoutMs,
    );
    signal.addEventListener('abort', onAbort, { once: true });
    dispatcher.dispatch({ ...request }, collector);
  });
}

/** Called once, with the end of a request. */
type OnEnd = (error: unknown, answer?: HttpAnswer) => void;

/** Collects an answer; undici calls it as the answer comes. */
class AnswerCollector implements Dispatcher.DispatchHandler {
  readonly #maxBytes: number;
  readonly #onEnd: OnEnd;
  #controller: Dispatcher.DispatchController | undefined;
  #ended = false;
  #status = 0;
  #headers: IncomingHttpHeaders = {};
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  constructor({ maxBytes }: AnswerLimits, onEnd: OnEnd) {
    this.#maxBytes = maxBytes;
    this.#onEnd = onEnd;
  }

  /** Breaks the request off, also before it was sent. */
  abort(reason: unknown): void {
    if (this.#ended) return;
    this.#end(reason);
    this.#controller?.abort(asError(reason));
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // It was aborted while it waited for a connection.
    if (this.#ended) controller.abort(new Error('aborted before it was sent'));
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    // Those before 200 announce another one.
    if (status < 200) return;
    this.#status = status;
    this.#headers = headers;
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#maxBytes) this.abort(new AnswerTooLarge(this.#maxBytes));
    else this.#chunks.push(chunk);
  }

  onResponseEnd(): void {
    const [first] = this.#chunks;
    const body = this.#chunks.length === 1 && first ? first : Buffer.concat(this.#chunks, this.#bytes);
    const answer = { status: this.#status, headers: this.#headers, body };
    // undici uses a connection again only in the next turn of the event loop, and makes a new one for who asks before.
    process.nextTick(setImmediate, () => this.#end(undefined, answer));
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#end(error);
  }

  #end(error: unknown, answer?: HttpAnswer): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd(error, answer);
  }
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error('aborted');
}
