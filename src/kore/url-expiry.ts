/** Unix seconds and unix milliseconds between September 2001 and the year 5138, which never overlap. */
const MIN_SECONDS = 1e9;
const MAX_SECONDS = 1e11;

/**
 * When a signed URL stops working, as far as its query tells: Kore's `e`, `X-Amz-Date` with `X-Amz-Expires`
 * (S3 signature v4), and `Expires` (S3 signature v2, CloudFront). The earliest where several are there;
 * `undefined` where none is, or none that makes sense. Never throws.
 *
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
 * @see https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-creating-signed-url-canned-policy.html
 */
export function urlExpiry(fileUrl: string): Date | undefined {
  const query = queryOf(fileUrl);
  const times = [
    ...query.getAll('e').map(unixTime),
    ...query.getAll('Expires').map(unixTime),
    amazonExpiry(query),
  ].filter((time) => time !== undefined);
  return times.length === 0 ? undefined : new Date(Math.min(...times));
}

/** The query as it stands between the first `?` and the `#`; unlike with `URL`, the rest may be anything. */
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
function amazonExpiry(query: URLSearchParams): number | undefined {
  const values = new Map([...query].map(([name, value]) => [name.toLowerCase(), value]));
  const seconds = values.get('x-amz-expires') ?? '';
  const signed = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/i.exec(values.get('x-amz-date') ?? '');
  if (signed === null || !/^\d{1,9}$/.test(seconds)) return undefined;
  const [, year, month, day, hour, minute, second] = signed;
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const time = Date.parse(iso);
  // Date.parse takes the 31st of any month; what it made of it then reads differently.
  if (Number.isNaN(time) || new Date(time).toISOString() !== iso) return undefined;
  return time + Number(seconds) * 1000;
}
