import { createHash, createHmac } from 'node:crypto';

/** Whose signature. */
export interface SigningKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
}

/**
 * The headers of a request to S3 with its signature, in the cheapest way there is: without a hash of the body.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 *
 * @param url without a query, its path already encoded.
 * @param headers what else is to be sent and signed, names in lowercase.
 */
export function signed(
  method: string,
  url: URL,
  headers: Readonly<Record<string, string>>,
  key: SigningKey,
): Record<string, string> {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  const date = time.slice(0, 'YYYYMMDD'.length);
  const scope = `${date}/${key.region}/s3/aws4_request`;
  const payload = 'UNSIGNED-PAYLOAD';
  const sent = { ...headers, host: url.host, 'x-amz-content-sha256': payload, 'x-amz-date': time };
  const fields = Object.entries(sent).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const names = fields.map(([name]) => name).join(';');
  const lines = fields.map(([name, value]) => `${name}:${value}\n`).join('');
  const canonical = [method, url.pathname, '', lines, names, payload].join('\n');
  const text = ['AWS4-HMAC-SHA256', time, scope, sha256(canonical)].join('\n');
  const signature = hmac(dailyKey(date, key), text).toString('hex');
  const credential = `${key.accessKeyId}/${scope}`;
  return {
    ...sent,
    authorization: `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names}, Signature=${signature}`,
  };
}

let cached: { readonly date: string; readonly key: Buffer } | undefined;

function dailyKey(date: string, { secretAccessKey, region }: SigningKey): Buffer {
  if (cached?.date !== date) {
    const key = [date, region, 's3', 'aws4_request'].reduce<string | Buffer>(hmac, `AWS4${secretAccessKey}`);
    cached = { date, key: Buffer.from(key) };
  }
  return cached.key;
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
