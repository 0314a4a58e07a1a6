import { randomUUID } from 'node:crypto';
import { SignJWT } from 'jose';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';

/** A token as the sandbox's app signs it, with changes. A claim of `undefined` is left out. */
export async function token(
  sandbox: Sandbox,
  changes: Readonly<Record<string, unknown>> = {},
  { secret = sandbox.clientSecret, alg = 'HS256' } = {},
): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const claims = { appId: sandbox.clientId, iat: now, exp: now + 300, jti: randomUUID(), ...changes };
  return new SignJWT(claims).setProtectedHeader({ alg }).sign(new TextEncoder().encode(secret));
}

export interface CallOptions {
  readonly auth?: string;
  readonly botId?: string;
  readonly query?: string;
  readonly signal?: AbortSignal;
}

/** Calls the voicemail API, with valid credentials by default. */
export async function call(
  sandbox: Sandbox,
  sessionId: string,
  options: CallOptions = {},
): Promise<Response> {
  const query = options.query ?? `sessionId=${sessionId}&transcription=true`;
  const auth = options.auth ?? (await token(sandbox));
  const init = { headers: { auth, 'content-type': 'application/json' }, signal: options.signal ?? null };
  return fetch(`${sandbox.url}/api/public/bot/${options.botId ?? sandbox.botId}/voicemail?${query}`, init);
}

/** What the documentation promises of an answer, as far as the tests check it. */
export interface VoicemailAnswer {
  readonly status: string;
  readonly 'voicemail recording'?: { readonly fileName: string; readonly fileUrl: string }[];
  readonly transcriptions?: {
    readonly botId: string;
    readonly sessionId: string;
    readonly lang: string;
    readonly components: { readonly cT: string; readonly data: { readonly text: string } }[];
  }[];
  readonly [other: string]: unknown;
}

/** A check that must go well. */
export async function fetchAnswer(sandbox: Sandbox, sessionId: string): Promise<VoicemailAnswer> {
  const response = await call(sandbox, sessionId);
  if (response.status !== 200) throw new Error(`answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as VoicemailAnswer;
}

/** A fresh URL for a recording of a session. */
export async function freshUrl(sandbox: Sandbox, sessionId: string, index = 0): Promise<string> {
  const url = (await fetchAnswer(sandbox, sessionId))['voicemail recording']?.[index]?.fileUrl;
  if (url === undefined) throw new Error('the answer has no such recording');
  return url;
}
