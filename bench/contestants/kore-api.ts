import { randomUUID } from 'node:crypto';
import { SignJWT } from 'jose';
import type { KoreConfig } from '../../src/config/config.ts';

/** Kore's answer, taken at its word. */
export interface KoreAnswer {
  readonly 'voicemail recording': readonly { readonly fileName: string; readonly fileUrl: string }[];
  readonly transcriptions: readonly unknown[];
}

/** Where a session's metadata is. */
export function voicemailUrl({ baseUrl, botId }: KoreConfig, sessionId: string): string {
  return `${baseUrl}/api/public/bot/${botId}/voicemail?sessionId=${sessionId}&transcription=true`;
}

/** A token for the header `auth`. */
export function signToken({ clientId, clientSecret }: KoreConfig): Promise<string> {
  return new SignJWT({ appId: clientId })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt()
    .setExpirationTime('10m')
    .setJti(randomUUID())
    .sign(new TextEncoder().encode(clientSecret));
}
