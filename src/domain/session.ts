/** What names a session: the unit of work everywhere in this project. */
export interface SessionRef {
  readonly botId: string;
  readonly sessionId: string;
}

/** Ids are accepted by their characters alone; Kore's own formats are conventions, not rules. */
export const ID_PATTERN = /^[A-Za-z0-9_-]{1,128}$/;

/** The shortest part of an id that is searched for. */
export const MIN_SEARCH_CHARACTERS = 3;

/** Whether a bot or session id is one this project accepts: 1 to 128 of `A-Z a-z 0-9 _ -`. */
export function isValidId(id: string): boolean {
  return ID_PATTERN.test(id);
}

/**
 * When a session was created, read from its id where that is a MongoDB ObjectId (24 hex digits, of which the
 * first 8 are unix seconds). `undefined` for every other id.
 */
export function creationTime(sessionId: string): Date | undefined {
  return /^[0-9a-f]{24}$/i.test(sessionId)
    ? new Date(Number.parseInt(sessionId.slice(0, 8), 16) * 1000)
    : undefined;
}

/**
 * When a session began (unix milliseconds), by its id or by a listing; `undefined` where neither says so.
 */
export function beganAt(session: SessionRef & { readonly beganAt?: number }): number | undefined {
  return creationTime(session.sessionId)?.getTime() ?? session.beganAt;
}
