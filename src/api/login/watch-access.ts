import type { FastifyRequest } from 'fastify';
import type { Logger } from '../../util/log.ts';
import { type LoginCookies, loggedIn } from './login-cookie.ts';

/** How often a log-in is checked: it may have ended at another process. */
const CHECK_INTERVAL_MS = 2_000;

/** What is checked while a request goes on. */
export interface WatchAccessOptions {
  /** Without them nobody can log in. */
  readonly logins?: LoginCookies | undefined;
  readonly log: Logger;
}

/**
 * Calls `end` within some seconds after the credentials of a long request have expired, or its sender has logged out at
 * any process of this queue. While the queue does not answer, the check is repeated.
 *
 * @returns stops the checks.
 */
export function watchAccess(
  request: FastifyRequest,
  end: () => void,
  { logins, log }: WatchAccessOptions,
): () => void {
  const { isLoggedIn, expiresAt } = request.identity ?? {};
  if (!isLoggedIn && expiresAt === undefined) return () => undefined;
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  const check = async () => {
    try {
      const isExpired = expiresAt !== undefined && expiresAt * 1000 <= Date.now();
      if (isExpired || (isLoggedIn && logins && !(await loggedIn(request.headers, logins)))) return end();
    } catch (error) {
      log.debug({ requestId: request.id, err: error }, 'could not find out whether a log-in was ended');
    }
    if (!isOver) timer = setTimeout(check, CHECK_INTERVAL_MS);
  };
  timer = setTimeout(check, CHECK_INTERVAL_MS);
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}
