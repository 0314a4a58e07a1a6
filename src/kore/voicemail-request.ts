import type { SessionRef } from '../session.ts';
import type { KoreRequest } from './exchange.ts';

/** The request for a session's voicemail, without its token. */
export function voicemailRequest({ botId, sessionId }: SessionRef): KoreRequest {
  const query = `sessionId=${encodeURIComponent(sessionId)}&transcription=true`;
  return {
    path: `/api/public/bot/${encodeURIComponent(botId)}/voicemail?${query}`,
    headers: { 'content-type': 'application/json', accept: 'application/json' },
  };
}
