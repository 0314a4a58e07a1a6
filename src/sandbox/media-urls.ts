import { createHmac, randomBytes, randomInt } from 'node:crypto';

/** Where recordings lie; what follows is the path of one, perhaps behind the number of a copy. */
export const MEDIA_PREFIX = '/api/getMediaStream/';
/** Where redirects lead to: hops left, then the path of the recording. */
export const STORAGE_PREFIX = '/storage/';

/**
 * What became of a URL: good; past its expiry; revoked or made up; changed on its way, if it is one of ours in
 * another spelling.
 */
export type UrlStatus = 'good' | 'expired' | 'refused' | 'changed';

/** How the `=` that ends a base64 signature is written, as in Kore's samples. */
const PADDINGS = ['=', '$', '$$', ''] as const;
/** Lengths whose base64 ends in one, one, two and no padding characters. */
const SIGNATURE_BYTES = [32, 32, 31, 30] as const;

/** Signs media URLs and checks them, byte for byte. */
export class MediaUrls {
  readonly #key = randomBytes(32);
  readonly #now: () => number;
  readonly #revocations = new Map<string, number>();
  #revocationsOfAll = 0;
  #issued = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** A new URL for that path, as Kore signs it: `e` the expiry in unix seconds, `n` a nonce, `s` the signature. */
  issue(path: string, lifetimeSeconds: number): string {
    const expiry = Math.floor(this.#now() / 1000 + lifetimeSeconds);
    // The nonce decides the padding; so all four kinds come in turn.
    const nonce = randomInt(250_000_000, 1_000_000_000) * 4 + (this.#issued++ % 4);
    return this.#signed(path, String(expiry), String(nonce));
  }

  /** A new URL for that path in the storage, as S3 signs it. */
  issueForStorage(path: string, lifetimeSeconds: number): string {
    const date = new Date(this.#now()).toISOString().replace(/[-:]|\.\d+/g, '');
    return this.#signedForStorage(path, date, String(Math.ceil(lifetimeSeconds)));
  }

  /** All URLs of that recording issued so far are refused from now on. */
  revoke(recordingPath: string): void {
    this.#revocations.set(recordingPath, (this.#revocations.get(recordingPath) ?? 0) + 1);
  }

  /** All URLs issued so far are refused from now on. */
  revokeAll(): void {
    this.#revocationsOfAll += 1;
  }

  /** @param target path and query as they stood in the request. */
  check(target: string): UrlStatus {
    const kore = /^([^?]+)\?e=(\d+)&n=(\d+)&s=/.exec(target);
    if (kore !== null) {
      const [, path = '', expiry = '', nonce = ''] = kore;
      return this.#verdict(target, this.#signed(path, expiry, nonce), Number(expiry) * 1000);
    }
    const storage = /^([^?]+)\?.*&X-Amz-Date=(\d{8}T\d{6}Z)&X-Amz-Expires=(-?\d+)&/.exec(target);
    if (storage !== null) {
      const [, path = '', date = '', expires = ''] = storage;
      const expiryMs = amzTime(date) + Number(expires) * 1000;
      return this.#verdict(target, this.#signedForStorage(path, date, expires), expiryMs);
    }
    return 'refused';
  }

  #verdict(target: string, issued: string, expiryMs: number): UrlStatus {
    if (target === issued) return expiryMs > this.#now() ? 'good' : 'expired';
    return decoded(target) === decoded(issued) ? 'changed' : 'refused';
  }

  #signed(path: string, expiry: string, nonce: string): string {
    const kind = Number(nonce.slice(-2)) % 4;
    const signature = this.#hmac(path, expiry, nonce).subarray(0, SIGNATURE_BYTES[kind]);
    const base64 = signature.toString('base64').replace(/=+$/, '') + (PADDINGS[kind] ?? '');
    return `${path}?e=${expiry}&n=${nonce}&s=${base64}`;
  }

  #signedForStorage(path: string, date: string, expires: string): string {
    const signature = this.#hmac(path, date, expires).toString('hex');
    const credential = `SANDBOX/${date.slice(0, 8)}/sandbox/s3/aws4_request`.replaceAll('/', '%2F');
    return (
      `${path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=${credential}` +
      `&X-Amz-Date=${date}&X-Amz-Expires=${expires}&X-Amz-SignedHeaders=host&X-Amz-Signature=${signature}`
    );
  }

  #hmac(path: string, ...parts: readonly string[]): Buffer {
    const revocations = `${this.#revocationsOfAll} ${this.#revocations.get(recordingPathOf(path)) ?? 0}`;
    return createHmac('sha256', this.#key)
      .update([revocations, path, ...parts].join('\n'))
      .digest();
  }
}

/** The path of the recording that an issued path belongs to, for those below the storage and of copies too. */
export function recordingPathOf(path: string): string {
  const issued = path.startsWith(STORAGE_PREFIX) ? path.replace(/^\/storage\/\d+/, '') : path;
  return issued.replace(COPY, MEDIA_PREFIX);
}

/** Another path for the same recording. */
export function copyOf(recordingPath: string, number: number): string {
  return recordingPath.replace(MEDIA_PREFIX, `${MEDIA_PREFIX}copy-${number}/`);
}

const COPY = new RegExp(`^${MEDIA_PREFIX}copy-\\d+/`);

function amzTime(date: string): number {
  return Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
}

/** The same text for all spellings of a URL. What cannot be decoded is left alone. */
function decoded(target: string): string {
  try {
    return decodeURIComponent(target);
  } catch (error) {
    if (error instanceof URIError) return target;
    throw error;
  }
}
