import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { ApiError, PROBLEM_CONTENT_TYPE, problemOf } from './problem.ts';
import { REQUEST_ID_HEADER, requestId, SECURITY_HEADERS } from './request-context.ts';

/**
 * The whole answer, head and body, to what is not HTTP or came too slowly, where there is no request yet that
 * could be answered in the usual way.
 *
 * @param code Node's code of the fault: `HPE_HEADER_OVERFLOW`, `ERR_HTTP_REQUEST_TIMEOUT`, ...
 */
function answerToMalformed(code: string | undefined): string {
  const error = errorOf(code);
  const body = JSON.stringify(problemOf(error));
  const headers = {
    ...SECURITY_HEADERS,
    [REQUEST_ID_HEADER]: requestId({ headers: {} }),
    'content-type': PROBLEM_CONTENT_TYPE,
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\n${lines.join('')}\r\n${body}`;
}

/** Answers, where that is still possible, and closes the connection. */
export function closeMalformed(socket: Socket, code: string | undefined, isAnswering: boolean): void {
  // In the middle of another answer it would be taken for a part of that one.
  if (socket.writable && code !== 'ECONNRESET' && !isAnswering) {
    socket.end(answerToMalformed(code), () => socket.destroy());
  } else {
    socket.destroy();
  }
}

function errorOf(code: string | undefined): ApiError {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new ApiError(431, 'HEADERS_TOO_LARGE', 'the path and the headers are longer than 16 KiB');
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new ApiError(413, 'PAYLOAD_TOO_LARGE', 'the extensions of the chunks are too long');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ApiError(408, 'REQUEST_TIMEOUT', 'the request did not arrive within its time');
    default:
      return new ApiError(400, 'INVALID_REQUEST', 'this is not HTTP/1.1');
  }
}
