import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Answer } from './answers.ts';
import type { CallProgress } from './call-log.ts';

/** One request and its answer on the way. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Path and query, byte for byte as they stood in the request. */
  readonly target: string;
  /** Notes in the log of calls how the answer comes along. */
  readonly update: (progress: CallProgress) => void;
  /** Aborted once the connection or the answer has ended. */
  readonly signal: AbortSignal;
}

/** The one value of a header, or `undefined` if it is missing or came several times. */
export function headerOf(exchange: Exchange, name: string): string | undefined {
  const values = exchange.request.headersDistinct[name];
  return values?.length === 1 ? values[0] : undefined;
}

/** Begins an answer. */
export function sendHead(
  exchange: Exchange,
  status: number,
  headers: Readonly<Record<string, string>>,
): void {
  exchange.response.writeHead(status, headers);
  exchange.update({ status });
}

/** Sends a small answer, or its first bytes and then closes the connection. */
export function sendAnswer(
  exchange: Exchange,
  answer: Answer,
  breakAfterBytes = Number.POSITIVE_INFINITY,
): void {
  const { response, request } = exchange;
  const body = Buffer.from(answer.body);
  sendHead(exchange, answer.status, { ...answer.headers, 'content-length': String(body.length) });
  if (request.method === 'HEAD') {
    response.end();
  } else if (breakAfterBytes > body.length) {
    response.end(body);
    exchange.update({ bytesSent: body.length });
  } else {
    response.flushHeaders();
    if (breakAfterBytes > 0) response.write(body.subarray(0, breakAfterBytes));
    exchange.update({ bytesSent: breakAfterBytes });
    dropConnection(exchange);
  }
}

/** Closes the connection in order: what was written arrives, and then nothing more. */
export function dropConnection({ response }: Exchange): void {
  response.socket?.destroySoon();
}

/** Waits until the caller, or the sandbox itself, has ended the connection. */
export async function untilGone({ signal }: Exchange): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}
