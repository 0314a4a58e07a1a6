import { type Answer, answerOverLimit, errorAnswer, type HttpExchange, headerOf } from './http.ts';
import type { MediaUrls } from './media-urls.ts';
import type { SandboxRecording, SandboxSession } from './session-state.ts';
import type { SandboxSettings } from './spec.ts';
import { INVALID_CREDENTIALS, type TokenCheck, WRONG_SCOPE } from './tokens.ts';

/** What the routes work on. */
export interface SandboxContext {
  readonly botId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** As they are at the moment. */
  readonly settings: SandboxSettings;
  readonly urls: MediaUrls;
  readonly tokens: TokenCheck;
  /** Calls of the API that were answered of late. */
  readonly callsTaken: RateWindow;
  readonly accountId: string;
  readonly sessions: ReadonlyMap<string, SandboxSession>;
  /** Milliseconds since 1970, by the sandbox's clock. */
  now(): number;
  /** Scheme, host and port that media URLs begin with. */
  mediaOrigin(): string;
  /** The same for URLs in the storage. */
  storageOrigin(): string;
  /** The session of that id, made up on the spot where the settings say so. */
  findSession(sessionId: string): SandboxSession | undefined;
  /** The recording whose URLs have that path. */
  findRecording(path: string): SandboxRecording | undefined;
  /** Counts pages of listings; returns how many there were before. */
  nextListing(): number;
  /** Notes that a caller did something that no caller should. */
  violation(text: string): void;
}
/** Counts calls in a sliding window. */
export class RateWindow {
  #calls: number[] = [];

  /**
   * Takes a call if fewer than `limit` were taken in the last `windowMs`.
   *
   * @param now milliseconds.
   * @returns 0 if it was taken, else the milliseconds until one would be.
   */
  take(limit: number, windowMs: number, now: number): number {
    this.#calls = this.#calls.filter((at) => at > now - windowMs);
    const blocking = this.#calls[this.#calls.length - limit];
    if (this.#calls.length >= limit) return blocking === undefined ? windowMs : blocking + windowMs - now;
    this.#calls.push(now);
    return 0;
  }
}

/** What every call of the API is refused for: its token, the app's scopes, a bot that is not the app's. */
export async function credentialsRefusal(
  exchange: HttpExchange,
  context: SandboxContext,
  botId: string,
  scope: string,
): Promise<Answer | undefined> {
  const { settings, clientId, clientSecret } = context;
  const text =
    (await context.tokens.refusal(headerOf(exchange, 'auth'), {
      clientId,
      secret: settings.signingSecret ?? clientSecret,
      enforceJti: settings.enforceJti,
    })) ??
    (settings.scopes.includes(scope) ? undefined : WRONG_SCOPE) ??
    (botId === context.botId ? undefined : INVALID_CREDENTIALS);
  return text === undefined ? undefined : errorAnswer(settings.errorEnvelope, 401, text);
}

/** Takes a call of the limit, or says that it is used up. */
export function limitRefusal({ settings, callsTaken }: SandboxContext): Answer | undefined {
  const limit = settings.rateLimit;
  if (limit === undefined) return undefined;
  const waitMs = callsTaken.take(limit.calls, limit.windowMs, Date.now());
  return waitMs > 0
    ? answerOverLimit(settings.errorEnvelope, limit.answer ?? '429-seconds', waitMs)
    : undefined;
}
