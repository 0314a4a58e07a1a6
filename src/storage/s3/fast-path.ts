/** The requests that every session makes, without the SDK's handling of any request there could be. */

import { setTimeout as delay } from 'node:timers/promises';
import type { S3Client } from '@aws-sdk/client-s3';
import { HttpRequest } from '@smithy/core/protocols';
import { systemCode } from '../../domain/errors.ts';
import { exchange, type HttpAnswer } from '../../util/http-exchange.ts';
import { createDispatcher, type ProxySettings } from '../../util/http-proxy.ts';
import { boundedNumber } from '../../util/numbers.ts';
import type { S3TimeLimits } from './client.ts';
import type { Fallback, Fallbacks } from './fallbacks.ts';
import { createRequestSigner, type SignRequest } from './request-signature.ts';
import { ANSWER_TIMEOUT_MS } from './slow-answers.ts';

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

/** An object that was read. */
export interface FastPathRead {
  readonly bytes: Buffer;
  readonly etag: string;
}

/**
 * Handles the common cases: a request that the store fulfils at once, a check of what is not there, a condition that
 * does not hold. Any other outcome (another answer, none, or no template yet) is left to the SDK, which sends the
 * request again with all it knows of errors and of trying again. The SDK's own handling costs several times as much CPU
 * time as signing and sending together, and each session makes several requests.
 */
export interface FastPath {
  /** The object, `null` where there is none, `undefined` when the SDK has to find out. */
  get(key: string, maxBytes: number, signal: AbortSignal): Promise<FastPathRead | null | undefined>;
  /** The full keys of all objects below a prefix; `undefined` when the SDK has to find out, or they are many. */
  list(prefix: string, signal: AbortSignal): Promise<readonly string[] | undefined>;
  /** `refused`: the condition does not hold. `undefined`: the SDK has to do it. */
  put(key: string, object: FastPathObject, signal: AbortSignal): Promise<'stored' | 'refused' | undefined>;
  /** Closes its connections. */
  close(): Promise<void>;
}

/** How the SDK sends requests of a kind: where to, what all of them say, and with whose signature. */
interface RequestTemplate {
  readonly origin: string;
  /** Up to the key, or all of it where there is none. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly sendsChecksum: boolean;
  readonly region: string;
  readonly sign: SignRequest;
}

type Method = Fallback['method'];

const METHODS: Readonly<Record<string, Method>> = {
  GetObjectCommand: 'GET',
  PutObjectCommand: 'PUT',
  ListObjectsV2Command: 'LIST',
};
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
const WITHOUT_BODY = {
  'x-amz-content-sha256': 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
};
/** What is read of an answer that is no object: more than S3 ever says. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** A page of 1000 keys, each of them as long as a key can be, has about as many. */
const MAX_LISTING_BYTES = 2 * 1024 * 1024;
/** As long as the SDK waits at the most before it sends a request for the second time. */
const MAX_PAUSE_MS = 100;
/** Shorter than S3 keeps an idle connection, so that none is met that is just being closed. */
const KEEP_ALIVE_MS = 10_000;

/**
 * @param client whose requests are the templates, and whose credentials are used.
 * @param fallbacks records each request that must be sent again.
 */
export function createFastPath(
  client: S3Client,
  proxy: ProxySettings | undefined,
  fallbacks: Fallbacks,
  limits: S3TimeLimits,
): FastPath {
  const templates: { [Kind in Method]?: RequestTemplate | undefined } = {};
  const dispatcher = createDispatcher(
    {
      allowH2: false,
      connect: { timeout: limits.connectionMs },
      headersTimeout: limits.requestMs,
      bodyTimeout: limits.socketMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
    },
    proxy,
  );
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      (args) => {
        const method = METHODS[commandName];
        if (method !== undefined && HttpRequest.isInstance(args.request)) {
          const { Key: key } = args.input as { readonly Key?: string };
          templates[method] = templateOf(args.request, key, templates[method]);
        }
        return next(args);
      },
    // After the signature.
    { name: 'learnTemplate', step: 'finalizeRequest', priority: 'low' },
  );

  async function send(
    method: Method,
    template: RequestTemplate,
    rest: string,
    own: Readonly<Record<string, string>>,
    content: { readonly body?: Buffer; readonly maxBytes: number },
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    const path = template.path + rest;
    const now = new Date(Date.now() + client.config.systemClockOffset);
    const verb = method === 'LIST' ? 'GET' : method;
    const unsigned = { method: verb, path, headers: { ...template.headers, ...own } };
    const headers = template.sign(unsigned, await client.config.credentials(), now);
    const { body, maxBytes } = content;
    const request = { origin: template.origin, method: verb, path, headers, ...(body && { body }) };
    return exchange(dispatcher, request, { maxBytes, totalTimeoutMs: ANSWER_TIMEOUT_MS }, signal);
  }

  return {
    async get(key, maxBytes, signal) {
      const template = templates.GET;
      if (!template || fallbacks.isLeftToSdk('GET')) return undefined;
      return attempt('GET', signal, async () => {
        const limit = { maxBytes: Math.max(maxBytes, MAX_ANSWER_BYTES) };
        const path = encodeKey(key);
        const { status, headers, body } = await send('GET', template, path, WITHOUT_BODY, limit, signal);
        if (status === 200) {
          const { etag } = headers;
          if (etag === undefined) throw new UnfitAnswer('no ETag');
          // Where the end of the connection is the end of the object, nothing shows whether all of it came.
          if (boundedNumber(headers['content-length']) === undefined) throw new UnfitAnswer('no length');
          return { bytes: body, etag };
        }
        if (status === 404 && body.includes('<Code>NoSuchKey</Code>')) return null;
        throw unfit(status);
      });
    },
    async list(prefix, signal) {
      const template = templates.LIST;
      if (!template || fallbacks.isLeftToSdk('LIST')) return undefined;
      return attempt('LIST', signal, async () => {
        // The signature wants the names in their order.
        const query = `?list-type=2&prefix=${encodeKey(prefix).replaceAll('/', '%2F')}`;
        const limit = { maxBytes: MAX_LISTING_BYTES };
        const { status, body } = await send('LIST', template, query, WITHOUT_BODY, limit, signal);
        const listing = status === 200 ? readWholeListing(body.toString()) : undefined;
        if (!listing) throw unfit(status);
        return listing.keys;
      });
    },
    async put(key, { bytes, sha256, contentType, condition }, signal) {
      const template = templates.PUT;
      if (!template || fallbacks.isLeftToSdk('PUT')) return undefined;
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
        const content = { body: bytes, maxBytes: MAX_ANSWER_BYTES };
        const { status, headers, body } = await send('PUT', template, encodeKey(key), own, content, signal);
        // S3 may find out too late for another status that it failed, and a proxy's own page has no ETag.
        if (status === 200 && headers.etag !== undefined && !body.includes('</Error>')) return 'stored';
        if (status === 412 && body.includes('<Code>PreconditionFailed</Code>')) return 'refused';
        throw unfit(status);
      });
    },
    close: () => dispatcher.destroy(),
  };

  /** What `work` returns; `undefined` when it fails, after a pause: the same request is about to be sent again. */
  async function attempt<Result>(
    method: Method,
    signal: AbortSignal,
    work: () => Promise<Result>,
  ): Promise<Result | undefined> {
    try {
      const result = await work();
      fallbacks.fulfilled(method);
      return result;
    } catch (error) {
      signal.throwIfAborted();
      // If the trouble lasts, the SDK meets it as well, and says what it is.
      fallbacks.happened({ method, reason: reasonOf(error) }, error instanceof UnfitAnswer && error.isItsWay);
      await delay(Math.random() * MAX_PAUSE_MS, undefined, { signal });
      return undefined;
    }
  }
}

/** An answer that is not handled here; its message is the reason. */
class UnfitAnswer extends Error {
  /** Whether it may be the store's way of answering, rather than a fault that passes. */
  readonly isItsWay: boolean;

  constructor(reason: string, isItsWay = true) {
    super(reason);
    this.isItsWay = isItsWay;
  }
}

function unfit(status: number): UnfitAnswer {
  return new UnfitAnswer(String(status), status < 500 && status !== 429);
}

function reasonOf(error: unknown): string {
  if (error instanceof UnfitAnswer) return error.message;
  return systemCode(error) ?? (error instanceof Error ? error.name : 'unknown');
}

/**
 * How a signed request of the SDK's was sent; `undefined` where requests for other objects can't be made of it.
 * @param key `undefined` for a request about no single object.
 * @param known that of the request before.
 */
function templateOf(
  request: HttpRequest,
  key: string | undefined,
  known: RequestTemplate | undefined,
): RequestTemplate | undefined {
  const { protocol, hostname, port, path } = request;
  const headers = new Map(
    Object.entries(request.headers).map(([name, value]) => [name.toLowerCase(), value]),
  );
  const region = CREDENTIAL.exec(headers.get('authorization') ?? '')?.[1];
  // An object's lock ends at a time of its own. Other signatures are those of S3 Express and of several regions.
  if (region === undefined || headers.has('x-amz-object-lock-mode')) return undefined;
  const keyPath = key === undefined ? '' : encodeKey(key);
  if (key !== undefined && !path.endsWith(`/${keyPath}`)) return undefined;
  return {
    origin: `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`,
    path: path.slice(0, path.length - keyPath.length),
    headers: Object.fromEntries([...headers].filter(([name]) => isSharedHeader(name))),
    sendsChecksum: headers.has('x-amz-checksum-sha256'),
    region,
    sign: known?.region === region ? known.sign : createRequestSigner(region),
  };
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
/** The members of S3's answer to a listing that give the keys. */

/** A listing that is all on one page. */
export interface WholeListing {
  /** Full keys. */
  readonly keys: readonly string[];
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/**
 * Reads such an answer, of which only this is used; `undefined` where it is none, goes on on another page, or
 * encodes keys otherwise than XML does: then the SDK is to ask.
 *
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
 */
export function readWholeListing(xml: string): WholeListing | undefined {
  const isListing = /<ListBucketResult[\s>]/.test(xml) && xml.includes('</ListBucketResult>');
  if (!isListing || !xml.includes('<IsTruncated>false</IsTruncated>') || xml.includes('<EncodingType>')) {
    return undefined;
  }
  const keys: string[] = [];
  for (const [, contents = ''] of xml.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
    const key = /<Key>([^<]*)<\/Key>/.exec(contents)?.[1];
    if (key === undefined) return undefined;
    keys.push(unescaped(key));
  }
  return { keys };
}

function unescaped(text: string): string {
  return text.replaceAll(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (whole, hex, decimal, name) => {
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
    return decimal === undefined ? (ENTITIES[name] ?? whole) : String.fromCodePoint(Number(decimal));
  });
}
