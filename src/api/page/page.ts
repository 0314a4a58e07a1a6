import type { FastifyRequest } from 'fastify';
import {
  addLoginRoutes,
  admitToPage,
  type LoginOptions,
  type LoginPlace,
  PAGE_HEADERS,
} from '../login/login.ts';
import { ApiError } from '../problem.ts';
import type { ZodServer } from '../validation.ts';
import { ASSETS_PATH, type Assets, pageAddress, readAssets } from './assets.ts';

/** The views of the page, each under an address of its own. */
const VIEWS = ['/', '/sessions', '/sessions/:id', '/failures', '/completeness', '/backfills'] as const;
const PLACE: LoginPlace = { prefix: '', home: '/' };
const IMMUTABLE = 'public, max-age=31536000, immutable';

/**
 * The operator's page: `GET /` and its views, which need a log-in, and its files, which hold no data and are public.
 * The page uses the API, as any program could.
 */
export function addPage(app: ZodServer, login: LoginOptions): void {
  const { isOpen } = login.guard;
  addLoginRoutes(app, login, PLACE);
  app.register(async (page: ZodServer) => {
    page.addHook('onRequest', async (request, reply) => {
      reply.headers(PAGE_HEADERS);
      await admitToPage(request, reply, login, PLACE);
      if (reply.sent) return reply;
    });
    for (const view of VIEWS) {
      page.get(view, async (_request, reply) =>
        reply.type('text/html; charset=utf-8').send(
          document(await readAssets(), {
            isOpen,
            // Where the package of that page is left out, what it would show.
            apiDescription: app.hasRoute({ method: 'GET', url: '/docs/json' }) ? '/docs' : '/openapi.json',
          }),
        ),
      );
    }
  });

  app.get(`${ASSETS_PATH}/:version/*`, async (request, reply) => {
    const { version, '*': path } = request.params as { version: string; '*': string };
    const assets = await readAssets();
    const asset = version === assets.version ? assets.files.get(path) : undefined;
    if (!asset) throw new ApiError(404, 'NOT_FOUND', 'there is no such file of the page');
    const etag = `"${version}"`;
    reply.headers({ 'cache-control': IMMUTABLE, vary: 'accept-encoding', etag });
    if (request.headers['if-none-match'] === etag) return reply.code(304).send();
    reply.type(asset.contentType);
    if (!takesGzip(request)) return reply.send(asset.bytes);
    return reply.header('content-encoding', 'gzip').send(asset.gzipped);
  });
}

function takesGzip({ headers }: Pick<FastifyRequest, 'headers'>): boolean {
  return /\bgzip\b(?!\s*;\s*q=0(?:\.0+)?(?:\s|,|$))/.test(String(headers['accept-encoding'] ?? ''));
}

interface DocumentOptions {
  /** Whether no log-in is needed, so that there is no log-out. */
  readonly isOpen: boolean;
  /** Where the API is described. */
  readonly apiDescription: string;
}

function document({ version, files }: Assets, { isOpen, apiDescription }: DocumentOptions): string {
  const address = (path: string) => pageAddress(version, path);
  const modules = [...files.keys()].filter((path) => path.endsWith('.js') && path !== 'main.js');
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Voicemail Archiver</title>
<link rel="icon" href="${address('static/icon.svg')}">
<link rel="stylesheet" href="${address('static/page.css')}">
<link rel="stylesheet" href="${address('vendor/uplot.css')}">
${modules.map((path) => `<link rel="modulepreload" href="${address(path)}">`).join('\n')}
<script type="module" src="${address('main.js')}"></script>
</head>
<body>
<div id="page" data-log-out="${isOpen ? 'no' : 'yes'}" data-api-description="${apiDescription}">
<p class="starting">Loading. If nothing comes, reload the page in a browser with scripts.</p>
</div>
</body>
</html>
`;
}
