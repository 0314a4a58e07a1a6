import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';

/** One request as it came over the wire. */
export interface MediaRequest {
  /** Path and query exactly as sent. */
  readonly target: string;
  /** Names in lowercase. */
  readonly headers: ReadonlyMap<string, string>;
  /** The first byte asked for by `Range: bytes=N-`. */
  readonly rangeFrom: number | undefined;
}

/** The other end of a connection: sends exactly what a test writes, right or wrong. */
export interface Reply {
  /** Resolves when the bytes are on their way, as fast as the other side takes them. */
  write(data: string | Buffer): Promise<void>;
  /** Ends the connection in an orderly way. */
  end(): void;
  /** Breaks the connection. */
  reset(): void;
}

export type Handler = (request: MediaRequest, reply: Reply) => void | Promise<void>;

/** A server for media on a free port of 127.0.0.1. */
export interface MediaServer {
  readonly port: number;
  /** `http://127.0.0.1:PORT` */
  readonly origin: string;
  /** All requests so far. */
  readonly requests: readonly MediaRequest[];
  /** Connections so far. */
  readonly connections: number;
  /** Body bytes and all else that was written so far. */
  readonly writtenBytes: number;
  /** Sets what answers requests from now on. */
  handle(handler: Handler): void;
  close(): Promise<void>;
}

/** Starts a server. */
export async function startMediaServer(): Promise<MediaServer> {
  const requests: MediaRequest[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  let writtenBytes = 0;
  let handler: Handler = respond(404);

  const server: Server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // The client breaking off is what many tests are about.
    socket.on('error', () => undefined);
    let received = '';
    socket.on('data', (data) => {
      received += data.toString('latin1');
      const end = received.indexOf('\r\n\r\n');
      if (end === -1) return;
      const request = parseRequest(received.slice(0, end));
      received = received.slice(end + 4);
      requests.push(request);
      void handler(request, replyTo(socket));
    });
  });

  function replyTo(socket: Socket): Reply {
    return {
      async write(data) {
        if (socket.destroyed) return;
        writtenBytes += data.length;
        if (socket.write(data)) return;
        const { promise, resolve } = Promise.withResolvers<void>();
        socket.once('drain', resolve).once('close', resolve);
        await promise;
        socket.off('drain', resolve).off('close', resolve);
      },
      end: () => void socket.end(),
      reset: () => void socket.resetAndDestroy(),
    };
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    origin: `http://127.0.0.1:${port}`,
    requests,
    get connections() {
      return connections;
    },
    get writtenBytes() {
      return writtenBytes;
    },
    handle(next) {
      handler = next;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

function parseRequest(text: string): MediaRequest {
  const [requestLine = '', ...lines] = text.split('\r\n');
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
    }),
  );
  const range = /^bytes=(\d+)-$/.exec(headers.get('range') ?? '');
  return {
    target: requestLine.split(' ')[1] ?? '',
    headers,
    rangeFrom: range === null ? undefined : Number(range[1]),
  };
}

/** The start of an answer. */
export function head(status: number, headers: Readonly<Record<string, string | number>> = {}): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} Whatever\r\n${lines.join('')}\r\n`;
}

/** A complete answer with a length. */
export function respond(
  status: number,
  body: string | Buffer = '',
  headers: Readonly<Record<string, string | number>> = {},
): Handler {
  const bytes = Buffer.from(body);
  return (_request, reply) =>
    reply.write(
      Buffer.concat([Buffer.from(head(status, { 'content-length': bytes.length, ...headers })), bytes]),
    );
}

/** Answers one request after the other, the last one for ever. */
export function inTurn(...handlers: readonly Handler[]): Handler {
  let next = 0;
  return (request, reply) => {
    const handler = handlers[Math.min(next, handlers.length - 1)];
    next += 1;
    return handler?.(request, reply);
  };
}

/** How a recording is served. */
export interface Serving {
  readonly etag?: string;
  readonly lastModified?: string;
  readonly contentType?: string;
  /** More headers of every answer. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether ranges are honoured; without it they are ignored. */
  readonly ranges?: boolean;
  /** How the end of the body is marked. */
  readonly framing?: 'length' | 'chunks' | 'close';
  /** After how many body bytes each answer is broken off, in turn; afterwards none is. */
  readonly breaks?: readonly number[];
  /** How. `end`: as if that were all. `stall`: says nothing more and keeps the connection. */
  readonly breakBy?: 'reset' | 'end' | 'stall';
  /** The size of the pieces written. */
  readonly pieceBytes?: number;
}

/** Serves a recording as a storage service does, ranges under a validator included, or as a broken one does. */
export function serve(recording: Buffer, serving: Serving = {}): Handler {
  const { etag, lastModified, ranges = false, framing = 'length', breakBy = 'reset' } = serving;
  const breaks = [...(serving.breaks ?? [])];
  return async (request, reply) => {
    const validators = [etag, lastModified].filter((validator) => validator !== undefined);
    const condition = request.headers.get('if-range');
    const partial =
      ranges &&
      request.rangeFrom !== undefined &&
      (condition === undefined || validators.includes(condition));
    const from = partial ? (request.rangeFrom ?? 0) : 0;
    if (partial && from >= recording.length) {
      await reply.write(head(416, { 'content-range': `bytes */${recording.length}`, 'content-length': 0 }));
      return;
    }
    const body = recording.subarray(from);
    await reply.write(
      head(partial ? 206 : 200, {
        'content-type': serving.contentType ?? 'audio/wav',
        ...serving.headers,
        ...(etag === undefined ? {} : { etag }),
        ...(lastModified === undefined ? {} : { 'last-modified': lastModified }),
        ...(partial ? { 'content-range': `bytes ${from}-${recording.length - 1}/${recording.length}` } : {}),
        ...(framing === 'length' ? { 'content-length': body.length } : {}),
        ...(framing === 'chunks' ? { 'transfer-encoding': 'chunked' } : {}),
        ...(framing === 'close' ? { connection: 'close' } : {}),
      }),
    );
    const breakAt = breaks.shift();
    const sent = body.subarray(0, breakAt);
    const pieceBytes = serving.pieceBytes ?? 64 * 1024;
    for (let at = 0; at < sent.length; at += pieceBytes) {
      const piece = sent.subarray(at, at + pieceBytes);
      await reply.write(framing === 'chunks' ? chunk(piece) : piece);
    }
    if (breakAt !== undefined) {
      if (breakBy === 'reset') reply.reset();
      if (breakBy === 'end') reply.end();
      return;
    }
    if (framing === 'chunks') await reply.write('0\r\n\r\n');
    if (framing === 'close') reply.end();
  };
}

function chunk(piece: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]);
}
