import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AuditLog } from '../../domain/audit-log.ts';
import { type Guard, unauthorized } from '../access.ts';
import { entryOf } from '../audit-log.ts';
import { pageAddress, readAssets } from '../page/assets.ts';
import type { ZodServer } from '../validation.ts';
import {
  cookiesOf,
  LOGIN_SECONDS,
  type LoginCookies,
  loggedIn,
  refuseOtherPages,
  setCookie,
} from './login-cookie.ts';

/** Headers of the log-in pages, and of the pages behind them. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; media-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  // Without a referrer, browsers do not say where a form comes from either.
  'referrer-policy': 'same-origin',
};

/** A JSON web token may be some kilobytes long, and is longer still in a form. */
const FORM_LIMIT_BYTES = 32 * 1024;
/** A path of this server, with a query: nothing that a browser could take for another server. */
const OWN_PATH = /^\/(?![/\\])[\w\-./?=&%:+]{0,1000}$/;

/** What the routes of log-ins use. */
export interface LoginOptions {
  readonly guard: Guard;
  readonly logins: LoginCookies;
  /** Records who logs in and out. */
  readonly auditLog?: AuditLog | undefined;
}

/** Where the log-in page is, and where it leads. */
export interface LoginPlace {
  /** `/dashboard`, or nothing. */
  readonly prefix: string;
  /** Where a browser is sent after the log-in, unless it asked for another page. */
  readonly home: string;
}

/** `/login` and `/logout` below a prefix: a browser logs in and out. They are forms without scripts. */
export function addLoginRoutes(
  app: ZodServer,
  { guard, logins, auditLog }: LoginOptions,
  { prefix, home }: LoginPlace,
): void {
  app.register(
    async (login: ZodServer) => {
      login.addHook('onRequest', async (_request, reply) => {
        reply.headers(PAGE_HEADERS);
      });
      login.addContentTypeParser<Buffer>(
        'application/x-www-form-urlencoded',
        { parseAs: 'buffer', bodyLimit: FORM_LIMIT_BYTES },
        (_request, body, done) => done(null, new URLSearchParams(body.toString())),
      );
      const sendPage = async (reply: FastifyReply, content: string) =>
        reply.type('text/html; charset=utf-8').send(await document(content));

      login.get('/login', async (request, reply) => {
        const next = nextOf(request.query);
        if (guard.isOpen || (await loggedIn(request.headers, logins))) {
          return reply.redirect(next ?? home, 303);
        }
        return sendPage(reply, loginForm(next));
      });

      login.post('/login', async (request, reply) => {
        refuseOtherPages(request);
        const form = request.body instanceof URLSearchParams ? request.body : new URLSearchParams();
        const next = nextOf({ next: form.get('next') });
        const token = form.get('token')?.trim();
        const cookie = token ? await logins.issue(token) : undefined;
        if (!cookie) {
          if (token) await guard.slow(request);
          const { status, headers } = unauthorized('the token is not one of this API, or has expired');
          return sendPage(
            reply.code(status).headers(headers),
            loginForm(next, 'That is no token of this API, or it has expired.'),
          );
        }
        const identity = await logins.find(cookie);
        auditLog?.record({ ...entryOf(request, identity, 'dashboard'), action: 'log-in' });
        return reply
          .header('set-cookie', setCookie(cookie, LOGIN_SECONDS, request))
          .redirect(next ?? home, 303);
      });

      login.get('/logout', async (_request, reply) => sendPage(reply, LOGOUT_FORM));

      login.post('/logout', async (request, reply) => {
        refuseOtherPages(request);
        const identity = await loggedIn(request.headers, logins);
        for (const value of cookiesOf(request.headers)) await logins.end(value);
        if (identity) auditLog?.record({ ...entryOf(request, identity, 'dashboard'), action: 'log-out' });
        return reply.header('set-cookie', setCookie('', 0, request)).redirect(`${prefix}/login`, 303);
      });
    },
    { prefix },
  );
}

/**
 * Decides whether a request may see a page, and sets its identity. Throws ApiError as the API's guard does. Redirects a
 * browser without a log-in to the log-in page; the reply is sent then.
 */
export async function admitToPage(
  request: FastifyRequest,
  reply: FastifyReply,
  { guard, logins }: LoginOptions,
  { prefix, home }: LoginPlace,
): Promise<void> {
  const login = `${prefix}/login`;
  const { headers, method, url } = request;
  const identity =
    headers.authorization !== undefined || guard.isOpen
      ? await guard.admit(request)
      : await loggedIn(headers, logins);
  if (identity) {
    request.identity = identity;
    return;
  }
  if (method === 'GET' && headers.accept?.includes('text/html')) {
    const next = url === home ? undefined : nextOf({ next: url });
    await reply.redirect(next === undefined ? login : `${login}?next=${encodeURIComponent(next)}`, 303);
    return;
  }
  throw unauthorized(`log in at ${login}, or send a token of this API as "Authorization: Bearer <token>"`);
}

/** The page that was asked for, if it is on this server. */
function nextOf(query: unknown): string | undefined {
  const { next } = { ...(query as { next?: unknown }) };
  return typeof next === 'string' && OWN_PATH.test(next) ? next : undefined;
}

/**
 * Where a person enters a token.
 * @param next the page to show then: a path that {@link OWN_PATH} matches.
 * @param wrong why the last token was refused, as text without markup.
 */
function loginForm(next: string | undefined, wrong?: string): string {
  return `<form method="post" action="login">
<h1>Voicemail Archiver</h1>
${wrong ? `<p class="wrong" role="alert">${wrong}</p>` : ''}
<label>API token <input type="password" name="token" required autofocus autocomplete="current-password"></label>
${next === undefined ? '' : `<input type="hidden" name="next" value="${next.replaceAll('&', '&amp;')}">`}
<button class="primary">Log in</button>
</form>`;
}

/** Where a person logs out. */
const LOGOUT_FORM = `<form method="post" action="logout">
<h1>Voicemail Archiver</h1>
<p>Your log-in ends for this browser, and for every copy of its cookie.</p>
<button class="primary">Log out</button>
</form>`;

async function document(content: string): Promise<string> {
  const { version } = await readAssets();
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Voicemail Archiver</title>
<link rel="icon" href="${pageAddress(version, 'static/icon.svg')}">
<link rel="stylesheet" href="${pageAddress(version, 'static/page.css')}">
</head>
<body class="login">
<main>
${content}
</main>
</body>
</html>
`;
}
