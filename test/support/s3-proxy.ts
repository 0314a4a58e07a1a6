/** A proxy in front of an S3 server that records the requests and damages those that a test selects. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** What a request is for. */
export type Stage = 'create' | 'part' | 'complete' | 'abort' | 'put' | 'head' | 'get' | 'list';

/** A request as the proxy sees it before it is passed on. */
export interface SeenRequest {
  readonly stage: Stage;
  /** With the bucket, and as it stands in the request: percent-encoded. */
  readonly path: string;
  readonly method: string;
  /** With its `?`, if there is any. */
  readonly query: string;
  /** Of a part. */
  readonly partNumber: number | undefined;
  readonly headers: IncomingMessage['headers'];
  /** How many requests of the same stage (and part) there were, this one included. */
  readonly count: number;
}

/**
 * What happens to a request: passed on; answered with an error; cut off before or after the server got it;
 * never answered; passed on with one byte of its body changed; passed on and answered with a bare 200; passed on and
 * its answer broken off half-way; or answered with a page and status 200 by the proxy itself.
 */
export type InjectedFault =
  | 'pass'
  | { readonly status: number; readonly code: string }
  | 'drop request'
  | 'drop answer'
  | 'hang'
  | 'damage'
  | 'blank answer'
  | 'half answer'
  | 'page'
  | ForgedAnswer;

/** Makes other bytes of an answer: its whole head, and its body. */
export type ForgedAnswer = (head: string, body: Buffer) => Buffer;

/** A running proxy. */
export interface S3Proxy {
  readonly endpoint: string;
  /** All requests so far, in order. */
  readonly seen: readonly SeenRequest[];
  close(): Promise<void>;
}

/**
 * Starts a proxy on a free port. `decide` tells each request's fault, `pass` by default.
 * @param tls what to speak https with; plain http without.
 */
export async function startS3Proxy(
  target: string,
  decide: (request: SeenRequest) => InjectedFault | undefined = () => undefined,
  tls?: { readonly cert: string; readonly key: string },
): Promise<S3Proxy> {
  const seen: SeenRequest[] = [];
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { stage, partNumber } = classify(incoming);
    const count = 1 + seen.filter((other) => other.stage === stage && other.partNumber === partNumber).length;
    const { method = '', headers } = incoming;
    const { pathname: path, search: query } = new URL(incoming.url ?? '/', target);
    const request: SeenRequest = { stage, path, method, query, partNumber, headers, count };
    seen.push(request);
    const fault = decide(request) ?? 'pass';
    if (fault === 'drop request') {
      incoming.socket.destroy();
      return;
    }
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of incoming) chunks.push(chunk);
    } catch {
      return; // the client went away
    }
    if (fault === 'hang') return;
    if (fault === 'page')
      outgoing.writeHead(200, { 'content-type': 'text/html' }).end('<html>sign in</html>');
    else if (typeof fault === 'object') answerError(outgoing, fault.status, fault.code);
    else forward(target, incoming, damaged(Buffer.concat(chunks), fault === 'damage'), outgoing, fault);
  };
  const server = tls ? createTlsServer(tls, handle) : createServer(handle);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    endpoint: `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

function classify({ method, url = '/' }: IncomingMessage): { stage: Stage; partNumber: number | undefined } {
  const { searchParams } = new URL(url, 'http://proxy');
  const part = searchParams.get('partNumber');
  const partNumber = method === 'PUT' && part !== null ? Number(part) : undefined;
  if (partNumber !== undefined) return { stage: 'part', partNumber };
  return { stage: plainStage(method, searchParams), partNumber };
}

function plainStage(method: string | undefined, query: URLSearchParams): Stage {
  if (method === 'PUT') return 'put';
  if (method === 'HEAD') return 'head';
  if (method === 'DELETE') return 'abort';
  if (method === 'POST') return query.has('uploads') ? 'create' : 'complete';
  return query.has('uploads') || query.has('uploadId') || query.has('list-type') ? 'list' : 'get';
}

function forward(
  target: string,
  incoming: IncomingMessage,
  body: Buffer,
  outgoing: ServerResponse,
  fault: InjectedFault,
): void {
  const { hostname, port } = new URL(target);
  // The Host header is signed, so it goes on as it came.
  const onward = request(
    { hostname, port, method: incoming.method, path: incoming.url, headers: incoming.headers, agent: false },
    (answer) => {
      if (fault === 'blank answer') {
        answer.resume();
        answer.on('end', () => outgoing.writeHead(200).end());
        return;
      }
      if (fault === 'drop answer') {
        answer.resume();
        answer.on('end', () => incoming.socket.destroy());
        return;
      }
      if (typeof fault === 'function') {
        void forge(answer, fault).then(
          (bytes) => incoming.socket.end(bytes),
          () => incoming.socket.destroy(),
        );
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      if (fault === 'half answer') {
        const half = Math.floor(Number(answer.headers['content-length']) / 2);
        answer.once('data', (chunk: Buffer) =>
          outgoing.write(chunk.subarray(0, half), () => incoming.socket.destroy()),
        );
        return;
      }
      answer.pipe(outgoing);
    },
  );
  onward.on('error', () => incoming.socket.destroy());
  onward.end(body);
}

async function forge(answer: IncomingMessage, make: ForgedAnswer): Promise<Buffer> {
  const body = await buffer(answer);
  const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`];
  for (let at = 0; at + 1 < answer.rawHeaders.length; at += 2)
    lines.push(`${answer.rawHeaders[at]}: ${answer.rawHeaders[at + 1]}`);
  return make(`${lines.join('\r\n')}\r\n\r\n`, body);
}

function answerError(outgoing: ServerResponse, status: number, code: string): void {
  outgoing.writeHead(status, { 'content-type': 'application/xml' });
  outgoing.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>injected</Message></Error>`);
}

function damaged(body: Buffer, damage: boolean): Buffer {
  if (damage && body.length > 0) body[body.length >> 1] = (body[body.length >> 1] ?? 0) ^ 1;
  return body;
}
