import { createRemoteJWKSet, errors, type JWTVerifyGetKey, jwtVerify } from 'jose';
import type { JwtConfig, KoreApp } from '../config/config.ts';
import { ApiError } from './problem.ts';
import { createSecretCheck } from './secrets.ts';

/**
 * The algorithms of access tokens: those whose keys a JWKS can make public. HMAC is none of them, or whoever knows
 * a public key could sign with it.
 */
const ASYMMETRIC = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];
/** How far clocks may be apart. */
const CLOCK_TOLERANCE_S = 10;
const KEYS_TIMEOUT_MS = 5_000;

/**
 * A function that tells whether a text is a JSON web token of the issuer for the audience, signed by one of the
 * keys in the JWKS and not expired. The keys are fetched when they are first needed, kept for ten minutes, and
 * fetched again for a token that names an unknown one.
 *
 * It throws ApiError 503 when the keys can't be fetched: then nobody knows whether the token is right.
 */
export function createAccessTokenCheck(config: JwtConfig): (token: string) => Promise<boolean> {
  const { jwksUrl, issuer, audience } = config;
  const keySet = createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: KEYS_TIMEOUT_MS });
  const getKey: JWTVerifyGetKey = async (header, token) => {
    try {
      return await keySet(header, token);
    } catch (error) {
      if (isNoKeyOf(error)) throw error;
      throw new ApiError(
        503,
        'KEYS_UNAVAILABLE',
        'the keys that sign access tokens cannot be fetched (API_JWKS_URL); try again in a moment',
        { cause: error },
      );
    }
  };
  return (token) =>
    isRight(() =>
      jwtVerify(token, getKey, {
        issuer,
        audience,
        algorithms: ASYMMETRIC,
        clockTolerance: CLOCK_TOLERANCE_S,
        requiredClaims: ['exp'],
      }),
    );
}

/**
 * A function that tells whether a text is a token of the Kore app, as Kore's BotKit sends them: HS256 by the
 * client secret, `appId` being the client id. An `exp` counts where there is one.
 */
export function createKoreTokenCheck({
  clientId,
  clientSecret,
}: KoreApp): (token: string) => Promise<boolean> {
  const key = new TextEncoder().encode(clientSecret);
  const isClientId = createSecretCheck([clientId]);
  return (token) =>
    isRight(async () => {
      const { payload } = await jwtVerify(token, key, {
        algorithms: ['HS256'],
        clockTolerance: CLOCK_TOLERANCE_S,
      });
      if (typeof payload.appId !== 'string' || !isClientId(payload.appId)) {
        throw new errors.JWTInvalid('the token is of another app');
      }
    });
}

/** Whether a token is right; what has nothing to do with the token is thrown. */
async function isRight(verify: () => Promise<unknown>): Promise<boolean> {
  try {
    await verify();
    return true;
  } catch (error) {
    if (error instanceof errors.JOSEError) return false;
    throw error;
  }
}

/** The keys are there, but none is, or several are, what the token's header asks for. */
function isNoKeyOf(error: unknown): boolean {
  return (
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys ||
    error instanceof errors.JOSENotSupported
  );
}
