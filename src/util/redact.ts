/**
 * The last line of defence: takes secrets and signed URLs out of any text that leaves the process. The work grows
 * with the length of the text and no faster, whatever it holds: it may be an attacker's.
 */

/** The texts to redact, the longest first: a token may be the beginning of another one. */
let secrets: readonly string[] = [];

/** The shortest secret that is redacted: a shorter one would redact ordinary words. */
const MIN_SECRET_LENGTH = 6;

/** Remembers a secret (API token, client secret, password), so that {@link redact} takes it out from now on. */
export function registerSecret(secret: string): void {
  if (secret.length < MIN_SECRET_LENGTH) return;
  const forms = [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)];
  secrets = [...new Set([...secrets, ...forms])].sort((a, b) => b.length - a.length);
}

/** JSON web tokens, also those that are cut: base64url of `{"` and so on, with up to two more parts. */
const JWT = /\beyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){0,2}/g;
/**
 * Query parameters that sign a Kore, S3, Azure or CloudFront URL, wherever they stand without the URL before them:
 * behind `?` or `&` (also percent-encoded) whatever their value, elsewhere when it is long.
 */
const SIGNATURE =
  /((?:[?&]|%3f|%26)(?:s|sig|signature|policy|key-pair-id|token|x-amz-[a-z-]{1,40})(?:=|%3d))[^&\s"'<>\\]+/gi;
const LOOSE_SIGNATURE =
  /((?<![A-Za-z0-9_-])(?:s|sig|signature|policy|x-amz-[a-z-]{1,40})(?:=|%3d))[^&\s"'<>\\]{16,}/gi;
/** A recording itself, as a URI. */
const DATA_URI = /\b(data:[\w.+/;=-]{0,200};base64,)[A-Za-z0-9+/=_%-]*/gi;

/**
 * Replaces the query of every URL, user names and passwords in URLs, the content of `data:` URIs, JSON web tokens,
 * signatures of URLs and all registered secrets by `[redacted]`.
 */
export function redact(text: string): string {
  let clean = mayHoldMore(text)
    ? redactUrls(text)
        .replace(DATA_URI, '$1[redacted]')
        .replace(JWT, '[redacted]')
        .replace(SIGNATURE, '$1[redacted]')
        .replace(LOOSE_SIGNATURE, '$1[redacted]')
    : text;
  for (const secret of secrets) {
    if (clean.includes(secret)) clean = clean.replaceAll(secret, '[redacted]');
  }
  return clean;
}

/** Whether a text has a mark of secrets other than registered ones: most lines of a log have none. */
function mayHoldMore(text: string): boolean {
  return text.includes('://') || text.includes('eyJ') || text.includes('=') || /%3d|base64,/i.test(text);
}

/** By hand: a regular expression for the scheme would start over at each label of a long host name. */
function redactUrls(text: string): string {
  const parts: string[] = [];
  let done = 0;
  const urlEnd = /[\s"'<>\\]/g;
  for (let at = text.indexOf('://'); at !== -1; ) {
    const start = at + '://'.length;
    // What has no scheme is no URL, but one may follow without a blank between them.
    let next = start;
    if (/[a-z0-9+.-]/i.test(text.charAt(at - 1))) {
      urlEnd.lastIndex = start;
      next = urlEnd.exec(text)?.index ?? text.length;
      parts.push(text.slice(done, start), redactUrl(text.slice(start, next)));
      done = next;
    }
    at = text.indexOf('://', next);
  }
  parts.push(text.slice(done));
  return parts.join('');
}

/** @param rest of a URL, what follows its `://`. */
function redactUrl(rest: string): string {
  const slash = rest.indexOf('/');
  const authority = slash === -1 ? rest : rest.slice(0, slash);
  // An unencoded password may hold any character, so the last `@` counts.
  const userEnd = authority.lastIndexOf('@');
  const shown = userEnd === -1 ? rest : `[redacted]@${rest.slice(userEnd + 1)}`;
  const queryStart = shown.search(/[?#]/);
  return queryStart === -1 ? shown : `${shown.slice(0, queryStart)}?[redacted]`;
}
