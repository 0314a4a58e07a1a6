import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AuditLog } from '../../domain/audit-log.ts';
import { assertPermitted, type Guard, unauthorized } from '../access.ts';
import { entryOf } from '../audit.ts';
import { ApiError } from '../problem.ts';
import type { Identity } from '../roles.ts';
import type { ZodServer } from '../validation.ts';
import { type DashboardSessions, SESSION_SECONDS } from './session.ts';

/** The pages around the dashboard: plain HTML, without scripts. */

const STYLE = `
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: #f4f6f8; color: #1c2733;
  font: 16px/1.5 system-ui, sans-serif; }
form { display: grid; gap: 0.9rem; width: 20rem; padding: 2rem; border-radius: 10px; background: #fff;
  box-shadow: 0 2px 16px #1c27331f; }
h1 { margin: 0; font-size: 1.25rem; }
p { margin: 0; }
label { display: grid; gap: 0.3rem; }
input, button { font: inherit; padding: 0.5rem 0.7rem; border-radius: 6px; border: 1px solid #9aa7b4; }
button { background: #1d5fa8; border-color: #1d5fa8; color: #fff; cursor: pointer; }
.wrong { color: #a3211b; }
@media (prefers-color-scheme: dark) {
  body { background: #151a21; color: #dbe3ec; }
  form { background: #1f2630; box-shadow: none; }
  input { background: #151a21; color: inherit; }
  .wrong { color: #ff9c94; }
}`;

/**
 * For Bull Board's pages, which have no switch for it: leaves of the buttons that change something those that retry.
 * The others would be refused; should Bull Board call its buttons otherwise one day, they are seen again, and still
 * refused.
 */
export const RETRY_ONLY_STYLE = `<style>
ul[class^="jobActions-"] > li:not(:has(.lucide-refresh-cw)),
ul[class^="queueActions-"] > li:not(:has(.lucide-refresh-cw)),
button:has(.lucide-ellipsis-vertical) { display: none; }
</style>`;

/** Where a person gives a token. @param wrong what was wrong with the last one, as text without markup. */
function loginPage(wrong?: string): string {
  return page(`<form method="post" action="login">
<h1>Voicemail Archiver</h1>
${wrong ? `<p class="wrong" role="alert">${wrong}</p>` : ''}
<label>API token <input type="password" name="token" required autofocus autocomplete="current-password"></label>
<button>Log in</button>
</form>`);
}

/** Where a person ends a session. */
function logoutPage(): string {
  return page(`<form method="post" action="logout">
<h1>Voicemail Archiver</h1>
<p>You are leaving the dashboard.</p>
<button>Log out</button>
</form>`);
}

function page(content: string): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Voicemail Archiver</title>
<style>${STYLE}</style>
</head>
<body>
<main>
${content}
</main>
</body>
</html>
`;
}

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
  /** Notes who has logged in. */
  readonly auditLog?: AuditLog | undefined;
}

/** `/login` and `/logout`: how a browser gets a session, and rid of it. `app` adds the `/dashboard`. */
export function addLoginRoutes(app: ZodServer, { guard, sessions, auditLog }: LoginOptions): void {
  app.addContentTypeParser<Buffer>(
    'application/x-www-form-urlencoded',
    { parseAs: 'buffer', bodyLimit: FORM_LIMIT_BYTES },
    (_request, body, done) => done(null, new URLSearchParams(body.toString())),
  );
  const sendPage = (reply: FastifyReply, page: string) => reply.type('text/html; charset=utf-8').send(page);

  app.get('/login', async (request, reply) => {
    if (guard.isOpen || (await sessionOf(request.headers, sessions))) {
      return reply.redirect(DASHBOARD_PATH, 303);
    }
    return sendPage(reply, loginPage());
  });

  app.post('/login', async (request, reply) => {
    refuseCrossSite(request);
    const token = request.body instanceof URLSearchParams ? request.body.get('token')?.trim() : undefined;
    const session = token ? await sessions.open(token) : undefined;
    if (!session) {
      if (token) await guard.slow(request);
      const { status, headers } = unauthorized('the token is not one of this API, or has expired');
      return sendPage(
        reply.code(status).headers(headers),
        loginPage('That is no token of this API, or it has expired.'),
      );
    }
    const identity = await sessions.find(session);
    auditLog?.record({ ...entryOf(request, identity, 'dashboard'), action: 'log-in' });
    return reply
      .header('set-cookie', cookie(session, SESSION_SECONDS, isSecure(request)))
      .redirect(DASHBOARD_PATH, 303);
  });

  app.get('/logout', async (_request, reply) => sendPage(reply, logoutPage()));

  app.post('/logout', async (request, reply) => {
    refuseCrossSite(request);
    for (const value of cookiesOf(request.headers)) await sessions.end(value);
    return reply.header('set-cookie', cookie('', 0, isSecure(request))).redirect(LOGIN_PATH, 303);
  });
}

/**
 * Lets a request to the dashboard pass and notes its sender with it, or throws ApiError as the API's guard does. A
 * browser that has to log in first is sent to do so.
 */
export async function admitToDashboard(
  request: FastifyRequest,
  reply: FastifyReply,
  { guard, sessions }: LoginOptions,
): Promise<void> {
  const { headers, method } = request;
  // Programs bring their credentials with each request, which no web page can make them do.
  const isChange = method !== 'GET' && method !== 'HEAD';
  const permission = isChange ? 'operate' : 'read';
  if (headers.authorization !== undefined || guard.isOpen) {
    const admitted = await guard.admit(request);
    assertPermitted(admitted, permission);
    request.identity = admitted;
    if (headers.authorization === undefined && isChange) refuseCrossSite(request);
    return;
  }
  const identity = await sessionOf(headers, sessions);
  if (!identity) {
    if (method === 'GET' && headers.accept?.includes('text/html')) {
      await reply.redirect(LOGIN_PATH, 303);
      return;
    }
    throw unauthorized(
      `log in at ${LOGIN_PATH}, or send a token of this API as "Authorization: Bearer <token>"`,
    );
  }
  assertPermitted(identity, permission);
  if (isChange) refuseCrossSite(request);
  request.identity = identity;
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

/** Whose session a request brings along. */
async function sessionOf(
  headers: IncomingHttpHeaders,
  sessions: DashboardSessions,
): Promise<Identity | undefined> {
  for (const value of cookiesOf(headers)) {
    const identity = await sessions.find(value);
    if (identity) return identity;
  }
  return undefined;
}

/** The values of our cookie; a browser sends one for each path it was set on. */
function cookiesOf({ cookie: header = '' }: IncomingHttpHeaders): string[] {
  return header.split(';').flatMap((pair) => {
    const [name, value = ''] = pair.trim().split(/=(.*)/s);
    return name === SESSION_COOKIE ? [value] : [];
  });
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
