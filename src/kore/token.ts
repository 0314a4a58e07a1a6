import { randomUUID } from 'node:crypto';
import { SignJWT } from 'jose';
import { KORE_AUDIENCE } from '../domain/voicemail.ts';

/** What a token is signed with: the Kore app's client id and secret. */
export interface KoreCredentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** Short, as a token serves one request; apps with 'Enforce JTI' accept at most an hour. */
const LIFETIME_SECONDS = 5 * 60;

/**
 * Signs a token for one request to Kore's API: HS256 over the client secret, with a `jti` of its own, since
 * apps with 'Enforce JTI' accept each token only once.
 *
 * @param now milliseconds since 1970; the token is valid from then for 5 minutes.
 * @example
 * const headers = { auth: await signToken({ clientId: 'cs-...', clientSecret: '...' }) };
 */
export function signToken(credentials: KoreCredentials, now: number = Date.now()): Promise<string> {
  const { clientId, clientSecret } = credentials;
  const issuedAt = Math.floor(now / 1000);
  return new SignJWT({
    appId: clientId,
    sub: clientId,
    iss: clientId,
    aud: KORE_AUDIENCE,
    iat: issuedAt,
    exp: issuedAt + LIFETIME_SECONDS,
    jti: randomUUID(),
  })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .sign(new TextEncoder().encode(clientSecret));
}
