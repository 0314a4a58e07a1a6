import { errors, type JWTPayload, jwtVerify } from 'jose';

/** Kore's texts; all of them come with status 401. */
const INVALID_TOKEN = 'Invalid JWT token';
export const WRONG_SCOPE = 'Permission denied. Scope is incorrect!';
export const INVALID_CREDENTIALS = 'Invalid SDK credentials';

/** Apps that enforce `jti` want `exp` at most so far away. */
const MAX_LIFETIME_SECONDS = 3600;
/** Two clocks that are set by hand. */
const CLOCK_TOLERANCE_SECONDS = 5;

/** What a token is held against. */
export interface TokenRules {
  readonly clientId: string;
  readonly secret: string;
  readonly enforceJti: boolean;
}

/** Checks the header `auth`, and remembers which tokens were used. */
export class TokenCheck {
  /** When each `jti` may be forgotten because its token has expired, in seconds. */
  readonly #used = new Map<string, number>();

  /** Why the token is refused, in Kore's words, or `undefined` if it is good. It then counts as used. */
  async refusal(token: string | undefined, rules: TokenRules): Promise<string | undefined> {
    if (token === undefined) return INVALID_TOKEN;
    const payload = await verified(token, rules);
    if (payload === undefined) return INVALID_TOKEN;
    if (payload.appId !== rules.clientId) return INVALID_CREDENTIALS;
    const nowSeconds = Date.now() / 1000;
    const { exp, jti } = payload;
    if (exp !== undefined && exp > nowSeconds + MAX_LIFETIME_SECONDS + CLOCK_TOLERANCE_SECONDS)
      return INVALID_TOKEN;
    if (rules.enforceJti && (exp === undefined || !this.#firstUse(jti, exp, nowSeconds)))
      return INVALID_TOKEN;
    return undefined;
  }

  #firstUse(jti: unknown, expiry: number, nowSeconds: number): boolean {
    if (typeof jti !== 'string' || jti === '' || this.#used.has(jti)) return false;
    for (const [old, oldExpiry] of this.#used) {
      if (oldExpiry + CLOCK_TOLERANCE_SECONDS > nowSeconds) break;
      this.#used.delete(old);
    }
    this.#used.set(jti, expiry);
    return true;
  }
}

async function verified(token: string, rules: TokenRules): Promise<JWTPayload | undefined> {
  try {
    const { payload } = await jwtVerify(token, new TextEncoder().encode(rules.secret), {
      algorithms: ['HS256'],
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
    });
    return payload;
  } catch (error) {
    if (error instanceof errors.JOSEError) return undefined;
    throw error;
  }
}
