import type { FastifyRequest } from 'fastify';
import type { Logger } from '../../util/log.ts';
import { type LoginSessions, loggedIn } from './login-cookie.ts';

/** How often it is asked whether somebody is still logged in, who may have logged out at another process. */
const CHECK_MS = 2_000;

/** What is asked whether somebody is still admitted. */
export interface AdmissionOptions {
  /** Without them nobody can log in. */
  readonly logins?: LoginSessions | undefined;
  readonly log: Logger;
}

/**
 * Calls `end` once the credentials of a request, which goes on for long, have expired, or who sent it has logged out at
 * any process of this queue: within some seconds. Where the queue cannot tell, it is asked again.
 *
 * @returns ends the watch.
 */
export function whileAdmitted(
  request: FastifyRequest,
  end: () => void,
  { logins, log }: AdmissionOptions,
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
    if (!isOver) timer = setTimeout(check, CHECK_MS);
  };
  timer = setTimeout(check, CHECK_MS);
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}
