import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from '../util/http-exchange.ts';

/** Status and headers of an answer; names in lowercase. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
}

/** Nothing more is read from the connection while so much waits to be taken. */
const MAX_UNREAD_BYTES = 64 * 1024;

/**
 * One answer as undici receives it: its head, then its body piece by piece at the pace of whoever takes it. Without a
 * stream in between. What arrived before a break can still be read.
 */
export class MediaAnswer implements Dispatcher.DispatchHandler {
  readonly #head = Promise.withResolvers<AnswerHead>();
  readonly #unread: Buffer[] = [];
  #unreadBytes = 0;
  #controller: Dispatcher.DispatchController | undefined;
  #reader: PromiseWithResolvers<Buffer | undefined> | undefined;
  #end: { readonly error?: unknown } | undefined;

  /** Rejects with undici's error, or the reason of {@link MediaAnswer.abort}. */
  get head(): Promise<AnswerHead> {
    return this.#head.promise;
  }

  /**
   * The body's next bytes, `undefined` after the last. One call at a time, after the head.
   * @throws as {@link MediaAnswer.head} does.
   */
  async read(): Promise<Buffer | undefined> {
    const chunk = this.#unread.shift();
    if (chunk !== undefined) {
      this.#unreadBytes -= chunk.length;
      if (this.#unreadBytes < MAX_UNREAD_BYTES) this.#controller?.resume();
      return chunk;
    }
    if (this.#end === undefined) {
      this.#reader = Promise.withResolvers();
      return this.#reader.promise;
    }
    if ('error' in this.#end) throw this.#end.error;
    return undefined;
  }

  /** Closes the connection, also before there is one, and forgets what was not read. After the end it does nothing. */
  abort(reason: Error): void {
    this.#unread.length = 0;
    this.#unreadBytes = 0;
    if (this.#end) return;
    const controller = this.#controller;
    this.#finish({ error: reason });
    controller?.abort(reason);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // It waited for a connection when it was broken off.
    if (this.#end) controller.abort(new Error('broken off before it was sent'));
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    // Those before 200 announce another one.
    if (status >= 200) this.#head.resolve({ status, headers });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (chunk.length === 0 || this.#end) return;
    if (this.#reader) {
      this.#reader.resolve(chunk);
      this.#reader = undefined;
      return;
    }
    this.#unread.push(chunk);
    this.#unreadBytes += chunk.length;
    if (this.#unreadBytes >= MAX_UNREAD_BYTES) controller.pause();
  }

  onResponseEnd(): void {
    // undici uses a connection again only in the next turn of the event loop, and makes a new one for who asks before.
    process.nextTick(setImmediate, () => this.#finish({}));
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#finish({ error });
  }

  #finish(end: { readonly error?: unknown }): void {
    if (this.#end) return;
    this.#end = end;
    // It holds the headers as they came, and with them the first piece of the body: for as long as the session lasts.
    this.#controller = undefined;
    if ('error' in end) {
      this.#head.reject(end.error);
      this.#reader?.reject(end.error);
    } else {
      this.#reader?.resolve(undefined);
    }
    this.#reader = undefined;
  }
}
