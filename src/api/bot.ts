import { ApiError } from './problem.ts';

/** The bot of sessions that come without one. @throws ApiError 400 when there is none. */
export function defaultBot(defaultBotId: string | undefined): string {
  if (defaultBotId !== undefined) return defaultBotId;
  throw new ApiError(
    400,
    'INVALID_REQUEST',
    'botId is missing, and there is no default bot: send botId, or set KORE_BOT_ID',
  );
}
