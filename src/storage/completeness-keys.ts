/** Where completeness reports lie, and the notes that they are computed from. They are no sessions' directories. */

import { creationTime, type SessionRef } from '../domain/session.ts';
import { UNDATED } from './layout.ts';

const DIRECTORY = 'completeness/';

/** Relative key of the report of a day: `completeness/date=YYYY-MM-DD/report.json`. */
export function completenessReportKey(date: string): string {
  return `${DIRECTORY}date=${date}/report.json`;
}

/** Relative key of what Kore has listed of a day so far: `completeness/date=YYYY-MM-DD/listed.json`. */
export function completenessListedKey(date: string): string {
  return `${DIRECTORY}date=${date}/listed.json`;
}

/** What the notes of sessions without a voicemail begin with, for a bot and a day. */
export function withoutVoicemailPrefix(botId: string, date: string): string {
  return `${DIRECTORY}date=${date}/without-voicemail/bot_id=${botId}/`;
}

/** Relative key of the note that Kore was asked for a session and said that it has no voicemail. */
export function withoutVoicemailKey({ botId, sessionId }: SessionRef): string {
  const date = creationTime(sessionId)?.toISOString().slice(0, 'YYYY-MM-DD'.length) ?? UNDATED;
  return withoutVoicemailPrefix(botId, date) + sessionId;
}
