import { redact } from '../util/redact.ts';
import { UNSAFE_TO_SHOW } from '../util/text.ts';

/** Room for any name that a file system takes; what is longer is shortened in its middle, which keeps its ending. */
const MAX_CHARACTERS = 1_024;
/** Values of a query that are shorter are no signature, and may be a part of any name. */
const MIN_VALUE_CHARACTERS = 12;
/** Signed URLs have less than ten. */
const MAX_VALUES = 16;
/** What is behind so many characters of a name is not looked at. */
const MAX_LOOKED_AT = 8 * 1_024;

/** A parameter that signs a Kore, S3, Azure or CloudFront URL. */
const QUERY_START =
  /(?:^|[?#&;\s])(?:e|n|s|sig|signature|policy|expires|key-pair-id|x-amz-[a-z-]{1,40})=[^&\s]{6}/i;

/**
 * A `fileName` of Kore's as it may be written down: printable, of at most 1,024 characters, and without secrets and any
 * part of the signed query of its URL, should it hold that.
 */
export function cleanFileName(fileName: string, fileUrl: string): string {
  const name = withoutQuery(fileName.slice(0, MAX_LOOKED_AT), fileUrl);
  return shortened(redact(name).replace(UNSAFE_TO_SHOW, '').trim());
}

function shortened(name: string): string {
  if (name.length <= MAX_CHARACTERS) return name;
  const half = MAX_CHARACTERS / 2;
  return `${name.slice(0, half)}${name.slice(-half)}`;
}

/** Cut where the first part of a query begins. */
function withoutQuery(name: string, fileUrl: string): string {
  const starts = [name.search(QUERY_START), ...signedValues(fileUrl).map((value) => name.indexOf(value))];
  const first = Math.min(...starts.filter((start) => start !== -1));
  return Number.isFinite(first) ? name.slice(0, first).replace(/[?#&;\s]$/, '') : name;
}

/** The long values in the query of a URL, as they stand there and decoded. */
function signedValues(fileUrl: string): string[] {
  const query = /\?([^#]*)/.exec(fileUrl)?.[1] ?? '';
  const values = query.split('&', MAX_VALUES).map((parameter) => parameter.slice(parameter.indexOf('=') + 1));
  return values
    .flatMap((value) => [value, decoded(value)])
    .filter((value) => value.length >= MIN_VALUE_CHARACTERS);
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value; // a stray `%` is not an encoding
  }
}
