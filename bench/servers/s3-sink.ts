import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * As much of S3 as an archiver asks for, at the least cost: puts (plain, conditional and in parts), heads, gets,
 * deletes and listings. Large bodies are counted and thrown away, so it takes in any amount. It verifies no
 * signature and no checksum: for measurements, not for tests of the protocol.
 */
export interface S3Sink {
  readonly url: string;
  /** Those that have come so far, by method. */
  requests(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

/** Bodies up to this size are kept and can be read back. */
const KEPT_BYTES = 64 * 1024;
/** Longer than any client keeps an idle connection, so that none finds its connection just closed. */
const KEEP_ALIVE_TIMEOUT_MS = 120_000;

interface SunkObject {
  readonly bytes: number;
  /** `undefined` for a body too large to be kept. */
  readonly body: Buffer | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}

/** Starts a sink on a free port of the loopback address; any bucket exists. */
export async function startS3Sink(): Promise<S3Sink> {
  const objects = new Map<string, SunkObject>();
  /** Keys by the directories that they lie in, so that a listing looks through directories only. */
  const directories = new Map<string, Set<string>>();
  /** Bytes so far of each multipart upload. */
  const uploads = new Map<string, number>();
  const counts: Record<string, number> = {};

  const server = createServer(
    { keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS, noDelay: true },
    (request, response) => {
      void answer(request).then(
        (answered) => send(request, response, answered),
        // The client is gone.
        () => response.destroy(),
      );
    },
  );

  async function answer(request: IncomingMessage): Promise<Answer> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://sink');
    const key = decodeURIComponent(pathname);
    const uploadId = searchParams.get('uploadId');
    const { bytes, body } = await receive(request);
    const kind = searchParams.has('list-type') ? 'LIST' : (request.method ?? '');
    counts[kind] = (counts[kind] ?? 0) + 1;
    if (uploadId !== null) return answerUpload(request, key, uploadId, bytes);
    switch (request.method) {
      case 'PUT':
        return store(key, request, { bytes, body, headers: keptHeaders(request) });
      case 'HEAD':
        return read(key);
      case 'GET':
        return searchParams.has('list-type') ? list(key, searchParams.get('prefix') ?? '') : read(key);
      case 'DELETE':
        objects.delete(key);
        directories.get(directoryOf(key))?.delete(key);
        return { status: 204 };
      case 'POST':
        return searchParams.has('uploads') ? createUpload() : failure(501, 'NotImplemented');
      default:
        return failure(501, 'NotImplemented');
    }
  }

  function answerUpload(request: IncomingMessage, key: string, uploadId: string, bytes: number): Answer {
    const before = uploads.get(uploadId);
    if (before === undefined) return failure(404, 'NoSuchUpload');
    switch (request.method) {
      case 'PUT':
        uploads.set(uploadId, before + bytes);
        return { status: 200, headers: { etag: etag() } };
      case 'POST':
        return complete(key, uploadId, request, before);
      case 'DELETE':
        uploads.delete(uploadId);
        return { status: 204 };
      default:
        return failure(501, 'NotImplemented');
    }
  }

  function store(key: string, request: IncomingMessage, object: SunkObject): Answer {
    if (request.headers['if-none-match'] === '*' && objects.has(key))
      return failure(412, 'PreconditionFailed');
    objects.set(key, object);
    const directory = directoryOf(key);
    const beside = directories.get(directory);
    if (beside) beside.add(key);
    else directories.set(directory, new Set([key]));
    return { status: 200, headers: { etag: etag() } };
  }

  function read(key: string): Answer {
    const object = objects.get(key);
    if (object === undefined) return failure(404, 'NoSuchKey');
    const { bytes, body, headers } = object;
    return {
      status: 200,
      headers: { ...headers, 'content-length': String(bytes), etag: etag() },
      ...(body !== undefined && { body }),
    };
  }

  function list(bucket: string, prefix: string): Answer {
    const start = bucket.replace(/\/?$/, '/');
    const below = start + prefix;
    const keys = [...directories].flatMap(([directory, beside]) =>
      directory.startsWith(below) ? [...beside] : [],
    );
    const contents = keys.map(
      (key) =>
        `<Contents><Key>${key.slice(start.length)}</Key><Size>${objects.get(key)?.bytes}</Size></Contents>`,
    );
    return {
      status: 200,
      body: `<ListBucketResult><Name>archive</Name><IsTruncated>false</IsTruncated>${contents.join('')}</ListBucketResult>`,
    };
  }

  function createUpload(): Answer {
    const uploadId = randomUUID();
    uploads.set(uploadId, 0);
    const body = `<InitiateMultipartUploadResult><UploadId>${uploadId}</UploadId></InitiateMultipartUploadResult>`;
    return { status: 200, body };
  }

  function complete(key: string, uploadId: string, request: IncomingMessage, bytes: number): Answer {
    const stored = store(key, request, { bytes, body: undefined, headers: {} });
    if (stored.status !== 200) return stored;
    uploads.delete(uploadId);
    const body = `<CompleteMultipartUploadResult><ETag>${etag()}</ETag></CompleteMultipartUploadResult>`;
    return { status: 200, body };
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests: () => ({ ...counts }),
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** Up to the last `/` of a key, which whoever lists asks for. */
function directoryOf(key: string): string {
  return key.slice(0, key.lastIndexOf('/') + 1);
}

/** Reads a body to its end; keeps it if it is small. */
async function receive(request: IncomingMessage): Promise<{ bytes: number; body: Buffer | undefined }> {
  let kept: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= KEPT_BYTES) kept.push(chunk);
    else kept = [];
  }
  return { bytes, body: bytes <= KEPT_BYTES ? Buffer.concat(kept) : undefined };
}

function keptHeaders({ headers }: IncomingMessage): Record<string, string> {
  const kept = Object.entries(headers).filter(
    ([name]) => name === 'content-type' || name.startsWith('x-amz-meta-'),
  );
  return Object.fromEntries(kept.map(([name, value]) => [name, String(value)]));
}

function etag(): string {
  return `"${randomUUID().replaceAll('-', '')}"`;
}

function failure(status: number, code: string): Answer {
  return { status, body: `<Error><Code>${code}</Code><Message>${code}</Message></Error>` };
}

function send(request: IncomingMessage, response: ServerResponse, { status, headers, body }: Answer): void {
  response.writeHead(status, { 'content-length': Buffer.byteLength(body ?? ''), ...headers });
  const isGone = body === undefined && Number(headers?.['content-length'] ?? 0) > 0;
  if (request.method === 'HEAD') response.end();
  // A body that was thrown away cannot be sent: better no answer than a wrong one.
  else if (isGone) response.destroy();
  else response.end(body);
}
