import { boundedNumber, boundedTime } from '../util/numbers.ts';

/** Unix seconds and unix milliseconds between September 2001 and the year 5138, which never overlap. */
const MIN_SECONDS = 1e9;
const MAX_SECONDS = 1e11;

/** 31 years; Amazon itself allows a week. */
const MAX_AMAZON_SECONDS = 1e9 - 1;

/**
 * When a signed URL stops working, by its query: Kore's `e`, `X-Amz-Date` with `X-Amz-Expires`
 * (S3 signature v4), and `Expires` (S3 signature v2, CloudFront). The earliest where several are there;
 * `undefined` where none is, or none that makes sense. Never throws.
 *
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
 * @see
 *   https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-creating-signed-url-canned-policy.html
 */
export function urlExpiry(fileUrl: string): Date | undefined {
  if (/^data:/i.test(fileUrl)) return undefined;
  const values = new Map<string, string>();
  let earliest = Number.POSITIVE_INFINITY;
  const consider = (time: number | undefined): void => {
    if (time !== undefined && time < earliest) earliest = time;
  };
  // One pass, and no array of times: a query may hold hundreds of thousands of parameters.
  for (const [name, value] of queryOf(fileUrl)) {
    if (name === 'e' || name === 'Expires') consider(unixTime(value));
    else if (/^x-amz-(date|expires)$/i.test(name)) values.set(name.toLowerCase(), value);
  }
  consider(amazonExpiry(values));
  return earliest === Number.POSITIVE_INFINITY ? undefined : new Date(earliest);
}

/** The query between the first `?` and the `#`, unchanged; unlike with `URL`, the rest may be anything. */
function queryOf(fileUrl: string): URLSearchParams {
  const beforeFragment = fileUrl.split('#', 1)[0] ?? '';
  const start = beforeFragment.indexOf('?');
  return new URLSearchParams(start === -1 ? '' : beforeFragment.slice(start + 1));
}

/** Milliseconds since 1970 from a text of unix seconds or milliseconds. */
function unixTime(text: string): number | undefined {
  if (!/^\d{10,14}$/.test(text)) return undefined;
  const number = Number(text);
  if (number >= MIN_SECONDS && number < MAX_SECONDS) return number * 1000;
  return number >= MIN_SECONDS * 1000 && number < MAX_SECONDS * 1000 ? number : undefined;
}

/** Milliseconds since 1970 from `X-Amz-Date=20250212T112442Z` and `X-Amz-Expires=900`, in any case. */
function amazonExpiry(values: ReadonlyMap<string, string>): number | undefined {
  const seconds = boundedNumber(values.get('x-amz-expires'), MAX_AMAZON_SECONDS);
  const signed = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/i.exec(values.get('x-amz-date') ?? '');
  if (signed === null || seconds === undefined) return undefined;
  const [, year, month, day, hour, minute, second] = signed;
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const time = Date.parse(iso);
  // Date.parse takes the 31st of any month; what it made of it then reads differently.
  if (Number.isNaN(time) || new Date(time).toISOString() !== iso) return undefined;
  return boundedTime(time + seconds * 1000);
}
