/** The last line of defence: takes secrets and signed URLs out of any text that leaves the process. */

const secrets = new Set<string>();

/** Shortest secret that is looked for: anything shorter would blank out ordinary words. */
const MIN_SECRET_LENGTH = 6;

/** Remembers a secret (API token, client secret, password), so that {@link redact} takes it out from now on. */
export function registerSecret(secret: string): void {
  if (secret.length >= MIN_SECRET_LENGTH) {
    secrets.add(secret);
    secrets.add(encodeURIComponent(secret));
    secrets.add(JSON.stringify(secret).slice(1, -1));
  }
}

const URL_QUERY = /(\b[a-z][a-z0-9+.-]*:\/\/[^\s"'<>?#\\]*)[?#][^\s"'<>\\]*/gi;
const URL_USERINFO = /(\b[a-z][a-z0-9+.-]*:\/\/)[^\s"'<>/@\\]*@/gi;
/** Compact JWS: three base64url parts, the first of which is a JSON object. */
const JWT = /\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g;
/** Query parameters that sign a Kore or S3 URL, wherever they stand without the URL before them. */
const SIGNATURE = /([?&](?:s|sig|signature|x-amz-[a-z-]+)=)[^&\s"'<>\\]+/gi;

/**
 * Replaces the query of every URL, user names and passwords in URLs, JSON web tokens and all registered
 * secrets by `[redacted]`.
 */
export function redact(text: string): string {
  let clean = text
    .replace(URL_QUERY, '$1?[redacted]')
    .replace(URL_USERINFO, '$1[redacted]@')
    .replace(JWT, '[redacted]')
    .replace(SIGNATURE, '$1[redacted]');
  for (const secret of secrets) {
    if (clean.includes(secret)) clean = clean.replaceAll(secret, '[redacted]');
  }
  return clean;
}
