import type { SandboxContext } from './context.ts';
import { type Answer, errorAnswer, type HttpExchange, headerOf, limitAnswer } from './http.ts';
import { INVALID_CREDENTIALS, WRONG_SCOPE } from './tokens.ts';

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
  return waitMs > 0 ? limitAnswer(settings.errorEnvelope, limit.answer ?? '429-seconds', waitMs) : undefined;
}
