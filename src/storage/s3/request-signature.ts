/**
 * Signature Version 4 of requests to S3, as the fast path sends them. The SDK's own signer makes the same signature
 * (`test/storage/s3-signature.test.ts`) in 20 to 28 µs of CPU time; this takes 4 to 6.
 *
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */

import { createHmac, createSecretKey, hash, type KeyObject } from 'node:crypto';

/** A request to be signed. */
export interface UnsignedRequest {
  readonly method: string;
  /** Percent-encoded as it is sent. */
  readonly path: string;
  /** Names in lowercase, `host` and `x-amz-content-sha256` among them. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Whose signature. */
export interface SigningCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** Returns the headers of a request with all that its signature adds. */
export type SignRequest = (
  request: UnsignedRequest,
  credentials: SigningCredentials,
  now: Date,
) => Record<string, string>;

const ALGORITHM = 'AWS4-HMAC-SHA256';
/** Proxies may change it. */
const UNSIGNED = 'user-agent';

/** Signs requests to one region; the key of the day is derived once. */
export function createRequestSigner(region: string): SignRequest {
  let known: { readonly date: string; readonly secretAccessKey: string; readonly key: KeyObject } | undefined;

  function keyOf(date: string, { secretAccessKey }: SigningCredentials): KeyObject {
    if (known?.date !== date || known.secretAccessKey !== secretAccessKey) {
      const derived = [date, region, 's3', 'aws4_request'].reduce<Buffer>(
        (key, text) => createHmac('sha256', key).update(text).digest(),
        Buffer.from(`AWS4${secretAccessKey}`),
      );
      known = { date, secretAccessKey, key: createSecretKey(derived) };
    }
    return known.key;
  }

  return ({ method, path, headers }, credentials, now) => {
    const time = now.toISOString().replace(/[-:]|\.\d+/g, '');
    const date = time.slice(0, 'YYYYMMDD'.length);
    const { accessKeyId, sessionToken } = credentials;
    const sent: Record<string, string> = {
      ...headers,
      'x-amz-date': time,
      ...(sessionToken !== undefined && { 'x-amz-security-token': sessionToken }),
    };
    const names = Object.keys(sent)
      .filter((name) => name !== UNSIGNED)
      .sort();
    const lines = names.map((name) => `${name}:${canonical(sent[name] ?? '')}\n`).join('');
    const signedNames = names.join(';');
    const [pathname = '', query = ''] = path.split('?', 2);
    const digest = hash(
      'sha256',
      `${method}\n${pathname}\n${query}\n${lines}\n${signedNames}\n${sent['x-amz-content-sha256']}`,
    );
    const scope = `${date}/${region}/s3/aws4_request`;
    const signature = createHmac('sha256', keyOf(date, credentials))
      .update(`${ALGORITHM}\n${time}\n${scope}\n${digest}`)
      .digest('hex');
    sent.authorization = `${ALGORITHM} Credential=${accessKeyId}/${scope}, SignedHeaders=${signedNames}, Signature=${signature}`;
    return sent;
  };
}

function canonical(value: string): string {
  return value.trim().replaceAll(/\s+/g, ' ');
}
