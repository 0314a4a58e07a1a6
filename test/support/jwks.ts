/** An issuer of JSON web tokens with a real key set at a real address. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import type { JwtConfig } from '../../src/config/config.ts';

/** What a token may have otherwise than it should. */
export interface TokenChanges {
  readonly claims?: JWTPayload;
  /** Seconds from now; default an hour. `null` for none. */
  readonly expiresIn?: number | null;
  readonly header?: Readonly<Record<string, unknown>>;
  readonly key?: CryptoKey | Uint8Array;
}

/** An issuer. */
export interface Issuer {
  readonly jwt: JwtConfig;
  /** The public key as its JWK's text, for whoever takes it for a secret. */
  readonly publicKey: string;
  token(changes?: TokenChanges): Promise<string>;
  /** A token whose header says that it is not signed, and that is not. */
  unsigned(): string;
  /** How often the keys were fetched. */
  readonly fetches: () => number;
  /** Signs with a new key from now on, which is in the key set beside the old one. */
  rotate(): Promise<void>;
  /** Answers with this status instead of the keys; 200 for the keys again. */
  answerWith(status: number): void;
  close(): Promise<void>;
}

const ISSUER = 'https://login.example/';
const AUDIENCE = 'voicemail-archiver';
const HOUR_S = 3600;

/** Starts an issuer on a free port. */
export async function startIssuer(): Promise<Issuer> {
  const keys: { kid: string; privateKey: CryptoKey; jwk: object }[] = [];
  const rotate = async () => {
    const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
    const kid = `key-${keys.length + 1}`;
    keys.unshift({
      kid,
      privateKey,
      jwk: { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' },
    });
  };
  await rotate();
  let status = 200;
  let fetches = 0;
  const server = createServer((_request, response) => {
    fetches += 1;
    response.statusCode = status;
    response.end(status === 200 ? JSON.stringify({ keys: keys.map(({ jwk }) => jwk) }) : 'not now');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const newest = () => {
    const [key] = keys;
    if (!key) throw new Error('an issuer has a key');
    return key;
  };
  return {
    jwt: { jwksUrl: `http://127.0.0.1:${port}/keys`, issuer: ISSUER, audience: AUDIENCE, roleClaim: 'role' },
    publicKey: JSON.stringify(newest().jwk),
    token({ claims = {}, expiresIn = HOUR_S, header = {}, key } = {}) {
      const { kid, privateKey } = newest();
      const now = Math.floor(Date.now() / 1000);
      const payload = {
        iss: ISSUER,
        aud: AUDIENCE,
        sub: 'somebody',
        ...(expiresIn !== null && { exp: now + expiresIn }),
        ...claims,
      };
      return new SignJWT(payload)
        .setProtectedHeader({ alg: 'ES256', kid, ...header })
        .sign(key ?? privateKey);
    },
    unsigned() {
      const payload = { iss: ISSUER, aud: AUDIENCE, exp: Math.floor(Date.now() / 1000) + HOUR_S };
      const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');
      return `${encode({ alg: 'none', typ: 'JWT' })}.${encode(payload)}.`;
    },
    fetches: () => fetches,
    rotate,
    answerWith(next) {
      status = next;
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
