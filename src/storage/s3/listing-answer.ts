/** What S3 answers when asked for the objects below a prefix, as far as it takes to know their keys. */

/** A listing that is all on one page. */
export interface WholeListing {
  /** Full keys. */
  readonly keys: readonly string[];
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/**
 * Reads such an answer, of which only this is looked at; `undefined` where it is none, goes on on another page, or
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
