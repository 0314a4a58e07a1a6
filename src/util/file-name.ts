/** Names of recordings as others may see them: in manifests, views, logs and messages. */

import { redact } from './redact.ts';
import { UNSAFE_TO_SHOW } from './text.ts';

/** Room for any name that a file system takes; what is longer loses its middle, and keeps its ending. */
const MAX_CHARACTERS = 1_024;
/** How much of a name is read, half from its beginning and half from its end: work on a name is bounded. */
const MAX_LOOKED_AT = 8 * 1_024;
/** How many parameters of a URL are searched for in the name; signed URLs have a dozen. */
const MAX_QUERY = 16 * 1_024;
const MAX_PARAMETERS = 64;

/** What is not seen, or reorders what is seen; beyond what nothing shows. */
const IGNORABLE = /\p{Default_Ignorable_Code_Point}+/gu;
/** A parameter as queries have them, with its name: `?e=`. */
const QUERY_PARAMETER = /[?#&;][\w.~-]{1,40}=/;
/** A parameter that signs a Kore, S3, Azure or CloudFront URL, also where nothing is before it. */
const BARE_PARAMETER =
  /(?:^|\s)(?:e|n|s|sig|signature|policy|expires|key-pair-id|x-amz-[a-z-]{1,40})=[^&\s]{6}/i;
/** Parameters whose values are (parts of) signatures, at Kore, AWS, CloudFront, Azure and Google. */
const SIGNING_PARAMETER =
  /^(?:s|n|sig|hmac|hash|policy|key-pair-id|(?:x-(?:amz|goog|ms)-)?[\w-]*(?:signature|token|credential))$/i;
/** A value of those that is shorter is no secret, and may well be a part of an honest name. */
const MIN_SECRET_LENGTH = 8;

/**
 * A recording's `fileName` as it may be shown and written down: at most 1,024 characters of it, printable, without
 * secrets, and cut where it holds a part of its URL's signed query. A name that went through it once stays as it is.
 *
 * @example
 * presentableFileName({ fileName: 'a.wav?e=1&s=c2lnbmF0dXJl', fileUrl: '' }); // 'a.wav'
 */
export function presentableFileName({ fileName, fileUrl }: Named): string {
  // A recording itself may be its URL: those are not kept.
  if (fileName.length + fileUrl.length > MAX_KEPT) return present({ fileName, fileUrl });
  const known = presented.get(fileUrl);
  if (known?.of === fileName) return known.name;
  const name = present({ fileName, fileUrl });
  presented.set(fileUrl, { of: fileName, name });
  if (presented.size > MAX_PRESENTED) {
    const [oldest = ''] = presented.keys();
    presented.delete(oldest);
  }
  return name;
}

/** A recording, as far as its name depends on it. */
interface Named {
  readonly fileName: string;
  readonly fileUrl: string;
}

/** The latest names by their URLs: all who handle a recording ask for its name, some six times until it is archived. */
const presented = new Map<string, { readonly of: string; readonly name: string }>();
const MAX_PRESENTED = 64;
/** Characters of a name and its URL together. */
const MAX_KEPT = 8 * 1_024;

function present(recording: Named): string {
  const name = bounded(recording.fileName, MAX_LOOKED_AT).replace(UNSAFE_TO_SHOW, '').replace(IGNORABLE, '');
  const found = secretsOf(recording.fileUrl)
    .map((secret) => name.indexOf(secret))
    .concat(name.search(QUERY_PARAMETER), name.search(BARE_PARAMETER))
    .filter((index) => index >= 0);
  const cut = found.length === 0 ? name : name.slice(0, Math.min(...found)).replace(/[?#&;]$/, '');
  return bounded(redact(cut).trim(), MAX_CHARACTERS).trim();
}

/**
 * What of a URL's query must be in no name: the query itself, and the values that sign it, as they stand there and
 * decoded. Other values are no secrets: many a name holds the id that its URL names as well.
 */
function secretsOf(fileUrl: string): string[] {
  const start = fileUrl.search(/[?#]/);
  const query = start < 0 ? '' : fileUrl.slice(start + 1, start + 1 + MAX_QUERY);
  const values = query.split(/[&;#]/, MAX_PARAMETERS).flatMap((parameter) => {
    const equals = parameter.indexOf('=');
    if (!SIGNING_PARAMETER.test(parameter.slice(0, Math.min(Math.max(equals, 0), 100)))) return [];
    const value = parameter.slice(equals + 1);
    return [value, decoded(value)];
  });
  return [query, ...values].filter(({ length }) => length >= MIN_SECRET_LENGTH);
}

function bounded(text: string, characters: number): string {
  if (text.length <= characters) return text;
  return text.slice(0, characters / 2) + text.slice(-characters / 2);
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value; // a stray `%` is not an encoding
  }
}
