import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from '../log.ts';
import { type Guard, unauthorized } from './access.ts';
import { loginPage, logoutPage } from './dashboard-pages.ts';
import { type DashboardSessions, SESSION_SECONDS } from './dashboard-session.ts';
import { ApiError } from './problem.ts';
import type { ZodServer } from './validation.ts';

/** Where the dashboard is. */
export const DASHBOARD_PATH = '/dashboard';
const LOGIN_PATH = `${DASHBOARD_PATH}/login`;
/** The cookie of who has logged in. */
export const SESSION_COOKIE = 'archiver_session';
/** A JSON web token may be some kilobytes long, and is longer still in a form. */
const FORM_LIMIT_BYTES = 32 * 1024;

/** What the way in works with. */
export interface LoginOptions {
  readonly guard: Guard;
  readonly sessions: DashboardSessions;
  readonly log: Logger;
}

/** `/login` and `/logout`: how a browser gets a session, and rid of it. `app` adds the `/dashboard`. */
export function addLoginRoutes(app: ZodServer, { guard, sessions, log }: LoginOptions): void {
  app.addContentTypeParser<Buffer>(
    'application/x-www-form-urlencoded',
    { parseAs: 'buffer', bodyLimit: FORM_LIMIT_BYTES },
    (_request, body, done) => done(null, new URLSearchParams(body.toString())),
  );
  const sendPage = (reply: FastifyReply, page: string) => reply.type('text/html; charset=utf-8').send(page);

  app.get('/login', async (request, reply) => {
    if (guard.isOpen || (await hasSession(request.headers, sessions))) {
      return reply.redirect(DASHBOARD_PATH, 303);
    }
    return sendPage(reply, loginPage());
  });

  app.post('/login', async (request, reply) => {
    refuseCrossSite(request);
    const token = request.body instanceof URLSearchParams ? request.body.get('token')?.trim() : undefined;
    const session = token ? await sessions.open(token) : undefined;
    if (!session) {
      log.warn(
        { requestId: request.id },
        'a login to the dashboard was refused: the token is not one of this API',
      );
      const { status, headers } = unauthorized('the token is not one of this API, or has expired');
      return sendPage(
        reply.code(status).headers(headers),
        loginPage('That is no token of this API, or it has expired.'),
      );
    }
    return reply
      .header('set-cookie', cookie(session, SESSION_SECONDS, isSecure(request)))
      .redirect(DASHBOARD_PATH, 303);
  });

  app.get('/logout', async (_request, reply) => sendPage(reply, logoutPage()));

  app.post('/logout', async (request, reply) => {
    refuseCrossSite(request);
    return reply.header('set-cookie', cookie('', 0, isSecure(request))).redirect(LOGIN_PATH, 303);
  });
}

/**
 * Lets a request to the dashboard pass, or throws ApiError as the API's guard does. A browser that has to log in
 * first is sent to do so.
 */
export async function admitToDashboard(
  request: FastifyRequest,
  reply: FastifyReply,
  { guard, sessions }: LoginOptions,
): Promise<void> {
  const { headers, method } = request;
  // Programs bring their credentials with each request, which no web page can make them do.
  if (headers.authorization !== undefined) return guard.admit(headers);
  if (guard.isOpen) await guard.admit(headers);
  else if (!(await hasSession(headers, sessions))) {
    if (method === 'GET' && headers.accept?.includes('text/html')) {
      await reply.redirect(LOGIN_PATH, 303);
      return;
    }
    throw unauthorized(
      `log in at ${LOGIN_PATH}, or send a token of this API as "Authorization: Bearer <token>"`,
    );
  }
  if (method !== 'GET' && method !== 'HEAD') refuseCrossSite(request);
}

/**
 * Cookies come along whoever made the browser send a request, so what changes something has to come from a page of
 * this very server. Browsers say so in `Sec-Fetch-Site`, and where they do not (no https), in `Origin`.
 * @throws ApiError 403
 */
function refuseCrossSite({ headers }: Pick<FastifyRequest, 'headers'>): void {
  const site = headers['sec-fetch-site'];
  const isOwn = site === undefined ? isOwnOrigin(headers) : site === 'same-origin';
  if (!isOwn) {
    throw new ApiError(
      403,
      'FORBIDDEN',
      'this is only taken from the dashboard itself, not from another page',
    );
  }
}

function isOwnOrigin({ origin, host }: IncomingHttpHeaders): boolean {
  return origin !== undefined && URL.canParse(origin) && new URL(origin).host === host;
}

async function hasSession(headers: IncomingHttpHeaders, sessions: DashboardSessions): Promise<boolean> {
  for (const pair of headers.cookie?.split(';') ?? []) {
    const [name, value = ''] = pair.trim().split(/=(.*)/s);
    if (name === SESSION_COOKIE && (await sessions.isValid(value))) return true;
  }
  return false;
}

/** Whether the browser speaks https, with us or with a proxy in front of us. */
function isSecure({ protocol, headers }: Pick<FastifyRequest, 'protocol' | 'headers'>): boolean {
  const [forwarded] = String(headers['x-forwarded-proto'] ?? '').split(',');
  return protocol === 'https' || forwarded?.trim().toLowerCase() === 'https';
}

function cookie(value: string, maxAgeSeconds: number, secure: boolean): string {
  const attributes = [
    `${SESSION_COOKIE}=${value}`,
    `Path=${DASHBOARD_PATH}`,
    `Max-Age=${maxAgeSeconds}`,
    'HttpOnly',
    'SameSite=Strict',
  ];
  return [...attributes, ...(secure ? ['Secure'] : [])].join('; ');
}
