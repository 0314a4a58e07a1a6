/** The requests that every session makes, without the SDK's handling of any request there could be. */

import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { S3Client } from '@aws-sdk/client-s3';
import { HttpRequest } from '@smithy/core/protocols';
import { SignatureV4 } from '@smithy/signature-v4';
import { systemCode } from '../../domain/errors.ts';
import { boundedNumber } from '../../util/numbers.ts';

/** An object to be put. */
export interface FastPathObject {
  readonly bytes: Buffer;
  /** Lowercase hex. */
  readonly sha256: string;
  readonly contentType: string;
  readonly condition: PutCondition;
}

/** The condition of a write, in the SDK's names: `If-None-Match: *`, `If-Match: <etag>`, or neither. */
export interface PutCondition {
  readonly IfNoneMatch?: '*';
  readonly IfMatch?: string;
}

/** An object being read. Its body has to be read to the end or destroyed. */
export interface FastPathAnswer {
  readonly bytes: number;
  readonly body: Readable;
  readonly etag: string;
}

/**
 * Handles the common cases: a request that the store fulfils at once, a look at what is not there, a condition that does
 * not hold. Any other
 * outcome (another answer, none, or no template yet) is left to the SDK, which sends the request again with all it
 * knows of errors and of trying again. The SDK's own handling costs several times as much CPU time as signing and
 * sending together, and each session makes four requests.
 */
export interface FastPath {
  /** The object, `null` where there is none, `undefined` when the SDK has to find out. */
  get(key: string, signal: AbortSignal): Promise<FastPathAnswer | null | undefined>;
  /** `refused`: the condition does not hold. `undefined`: the SDK has to do it. */
  put(key: string, object: FastPathObject, signal: AbortSignal): Promise<'stored' | 'refused' | undefined>;
}

/** How the SDK sends requests of a kind: where to, what all of them say, and with whose signature. */
interface RequestTemplate {
  readonly protocol: string;
  readonly hostname: string;
  readonly port: number | undefined;
  /** Up to the key. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly sendsChecksum: boolean;
  readonly region: string;
  readonly signer: SignatureV4;
}

type Method = 'GET' | 'PUT';

const METHODS: Readonly<Record<string, Method>> = { GetObjectCommand: 'GET', PutObjectCommand: 'PUT' };
/** What the SDK says of one object alone, or of one request; all other `x-amz-` headers come by configuration. */
const OWN_HEADERS = new Set([
  'x-amz-checksum-mode',
  'x-amz-checksum-sha256',
  'x-amz-content-sha256',
  'x-amz-date',
  'x-amz-meta-sha256',
  'x-amz-security-token',
]);
const CREDENTIAL = /^AWS4-HMAC-SHA256 Credential=.+\/\d{8}\/([^/]+)\/s3\/aws4_request,/;
const SHA256_OF_NOTHING = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
/** What is read of an answer that is no object. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** As long as the SDK waits at the most before it sends a request for the second time. */
const MAX_PAUSE_MS = 100;

/** A request of the fast path that the SDK has to send again. */
export interface Fallback {
  readonly method: 'GET' | 'PUT';
  /** Why: the store's status, or the error's name. */
  readonly reason: string;
}

/**
 * @param client whose requests are the templates, and whose connections and credentials are used.
 * @param onFallback hears of each request that has to be sent again.
 */
export function createFastPath(client: S3Client, onFallback: (fallback: Fallback) => void): FastPath {
  const templates: { [Kind in Method]?: RequestTemplate | undefined } = {};
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      (args) => {
        const method = METHODS[commandName];
        if (method !== undefined && HttpRequest.isInstance(args.request)) {
          const { Key: key } = args.input as { readonly Key?: string };
          templates[method] = templateOf(args.request, key ?? '', client, templates[method]);
        }
        return next(args);
      },
    // After the signature.
    { name: 'learnTemplate', step: 'finalizeRequest', priority: 'low' },
  );

  async function send(
    method: Method,
    template: RequestTemplate,
    key: string,
    headers: Readonly<Record<string, string>>,
    body: Buffer | undefined,
    signal: AbortSignal,
  ) {
    const { protocol, hostname, port, path } = template;
    const request = new HttpRequest({
      method,
      protocol,
      hostname,
      ...(port !== undefined && { port }),
      path: path + encodeKey(key),
      headers: { ...template.headers, ...headers },
      body,
    });
    const signingDate = new Date(Date.now() + client.config.systemClockOffset);
    const signed = HttpRequest.clone(await template.signer.sign(request, { signingDate }));
    const { response } = await client.config.requestHandler.handle(signed, { abortSignal: signal });
    return response as { statusCode: number; headers: Record<string, string>; body: Readable };
  }

  return {
    async get(key, signal) {
      const template = templates.GET;
      if (!template) return undefined;
      return attempt('GET', signal, async () => {
        const own = { 'x-amz-content-sha256': SHA256_OF_NOTHING };
        const { statusCode, headers, body } = await send('GET', template, key, own, undefined, signal);
        if (statusCode === 200) {
          const bytes = boundedNumber(headers['content-length']);
          const { etag } = headers;
          if (bytes !== undefined && etag !== undefined) return { bytes, body, etag };
          body.destroy();
          throw new UnfitAnswer(etag === undefined ? 'no ETag' : 'no length');
        }
        const said = await readStart(body);
        if (statusCode === 404 && said.includes('<Code>NoSuchKey</Code>')) return null;
        throw new UnfitAnswer(String(statusCode));
      });
    },
    async put(key, { bytes, sha256, contentType, condition }, signal) {
      const template = templates.PUT;
      if (!template) return undefined;
      return attempt('PUT', signal, async () => {
        const own = {
          'content-length': String(bytes.length),
          'content-type': contentType,
          // By which the store verifies the body.
          'x-amz-content-sha256': sha256,
          'x-amz-meta-sha256': sha256,
          ...(template.sendsChecksum && {
            'x-amz-checksum-sha256': Buffer.from(sha256, 'hex').toString('base64'),
          }),
          ...(condition.IfNoneMatch !== undefined && { 'if-none-match': condition.IfNoneMatch }),
          ...(condition.IfMatch !== undefined && { 'if-match': condition.IfMatch }),
        };
        const { statusCode, headers, body } = await send('PUT', template, key, own, bytes, signal);
        const said = await readStart(body);
        // S3 may find out too late for another status that it failed, and a proxy's own page has no ETag.
        if (statusCode === 200 && headers.etag !== undefined && !said.includes('</Error>')) return 'stored';
        if (statusCode === 412 && said.includes('<Code>PreconditionFailed</Code>')) return 'refused';
        throw new UnfitAnswer(String(statusCode));
      });
    },
  };

  /** What `work` returns; `undefined` when it fails, after a pause: the same request is about to be sent again. */
  async function attempt<Result>(
    method: Method,
    signal: AbortSignal,
    work: () => Promise<Result>,
  ): Promise<Result | undefined> {
    try {
      return await work();
    } catch (error) {
      // If the trouble lasts, the SDK meets it as well, and says what it is.
      if (!signal.aborted) onFallback({ method, reason: reasonOf(error) });
      await delay(Math.random() * MAX_PAUSE_MS, undefined, { signal });
      return undefined;
    }
  }
}

/** The beginning of an answer that is no object: more than S3 ever says. */
async function readStart(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // Leaving the loop early destroys the body and its connection.
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) break;
  }
  return Buffer.concat(chunks).toString();
}

/** An answer that is not handled here; its message is the reason. */
class UnfitAnswer extends Error {}

function reasonOf(error: unknown): string {
  if (error instanceof UnfitAnswer) return error.message;
  return systemCode(error) ?? (error instanceof Error ? error.name : 'unknown');
}

/**
 * How a signed request of the SDK's was sent; `undefined` where requests for other objects can't be made of it.
 * @param known that of the request before.
 */
function templateOf(
  request: HttpRequest,
  key: string,
  client: S3Client,
  known: RequestTemplate | undefined,
): RequestTemplate | undefined {
  const { protocol, hostname, port, path } = request;
  const headers = new Map(
    Object.entries(request.headers).map(([name, value]) => [name.toLowerCase(), value]),
  );
  const region = CREDENTIAL.exec(headers.get('authorization') ?? '')?.[1];
  const keyPath = encodeKey(key);
  // An object's lock ends at a time of its own. Other signatures are those of S3 Express and of several regions.
  if (region === undefined || !path.endsWith(`/${keyPath}`) || headers.has('x-amz-object-lock-mode')) {
    return undefined;
  }
  return {
    protocol,
    hostname,
    port,
    path: path.slice(0, -keyPath.length),
    headers: Object.fromEntries([...headers].filter(([name]) => isSharedHeader(name))),
    sendsChecksum: headers.has('x-amz-checksum-sha256'),
    region,
    signer: known?.region === region ? known.signer : signerFor(region, client),
  };
}

function signerFor(region: string, { config }: S3Client): SignatureV4 {
  const { credentials, sha256 } = config;
  return new SignatureV4({
    service: 's3',
    region,
    credentials,
    sha256,
    uriEscapePath: false,
    applyChecksum: false,
  });
}

function isSharedHeader(name: string): boolean {
  return name === 'host' || name === 'user-agent' || (name.startsWith('x-amz-') && !OWN_HEADERS.has(name));
}

/** As the SDK writes a key into a URL: RFC 3986's unreserved characters and `/` as they are. */
function encodeKey(key: string): string {
  const escaped = (character: string) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
  return key
    .split('/')
    .map(encodeURIComponent)
    .join('/')
    .replaceAll(/[!'()*]/g, escaped);
}
