import { useErrorBoundary, useMemo } from 'preact/hooks';
import { useConnection } from './event-stream.js';
import { html } from './html.js';
import { WhoContext } from './identity.js';
import { ROLE_WORDS } from './labels.js';
import { announceLogInEnded, useLogInEnded } from './log-in.js';
import { Messages } from './parts/action.js';
import { Empty, Heading, LogInAgain } from './parts/common.js';
import { Link, usePlace } from './router.js';
import { dateAndTime } from './time.js';
import { useData } from './use-data.js';
import { BackfillsView } from './views/backfills.js';
import { CompletenessView } from './views/completeness.js';
import { FailuresView } from './views/failures.js';
import { NowView } from './views/now.js';
import { SessionScreen } from './views/session.js';
import { SessionsView } from './views/sessions.js';

/** @import { Permission, Who } from './identity.js' */

const WHO_MS = 60_000;
const VIEWS = [
  { path: '/', name: 'Now' },
  { path: '/sessions', name: 'Sessions' },
  { path: '/failures', name: 'Failures' },
  { path: '/completeness', name: 'Completeness' },
  { path: '/backfills', name: 'Backfills' },
];

/** @param {{ canLogOut: boolean, apiDescription: string }} props */
export function App({ canLogOut, apiDescription }) {
  const place = usePlace();
  const { data: who } = /** @type {import('./use-data.js').Loaded<Who>} */ (
    // A log-in ends by itself, too.
    useData('/v1/whoami', { everyMs: WHO_MS })
  );
  const isOver = useLogInEnded();
  const connection = useConnection();
  const first = `/${place.path.split('/')[1] ?? ''}`;
  return html`<${WhoContext.Provider} value=${who}>
    <a class="skip" href="#content">Skip to the content</a>
    <header>
      <span class="name">Voicemail Archiver</span>
      <nav aria-label="Views">
        ${VIEWS.map(
          ({ path, name }) =>
            html`<${Link} to=${path} aria-current=${path === first ? 'page' : undefined}>${name}<//>`,
        )}
      </nav>
      <div class="who">
        <span class="connection ${connection}" role="status">
          ${connection === 'open' ? 'live' : connection === 'lost' ? 'connection lost, trying again' : 'connecting'}
        </span>
        ${who ? html`<span title=${aboutWho(who)}>${who.name} (${who.role})</span>` : ''}
        ${canLogOut ? html`<form method="post" action="/logout" onSubmit=${announceLogInEnded}><button class="plain">Log out</button></form>` : ''}
      </div>
    </header>
    <main id="content" tabindex="-1">
      ${
        isOver
          ? html`<${LogInAgain} />`
          : who && !who.permissions.includes('read')
            ? html`<${Forbidden} who=${who} />`
            : html`<${Guarded} key=${place.path}><${View} path=${place.path} query=${place.query} /><//>`
      }
    </main>
    <${Messages} />
    <footer>
      <a href=${apiDescription}>API</a>
      <a href="/dashboard/queues">Queue in Bull Board</a>
    </footer>
  <//>`;
}

/** @param {Who} who */
function aboutWho({ permissions, expiresAt }) {
  const may = `May ${permissions.map((one) => ROLE_WORDS[one]).join('; ')}.`;
  return expiresAt === undefined ? may : `${may} The log-in ends at ${dateAndTime(expiresAt)}.`;
}

/** @param {{ path: string, query: URLSearchParams }} props */
function View({ path, query }) {
  const session = useMemo(() => /^\/sessions\/([^/]+)$/.exec(path)?.[1], [path]);
  if (session !== undefined) {
    return html`<${SessionScreen}
      sessionId=${decodeURIComponent(session)}
      botId=${query.get('botId') ?? undefined}
    />`;
  }
  switch (path) {
    case '/':
      return html`<${NowView} />`;
    case '/sessions':
      return html`<${SessionsView} query=${query} />`;
    case '/failures':
      return html`<${FailuresView} />`;
    case '/completeness':
      return html`<${CompletenessView} query=${query} />`;
    case '/backfills':
      return html`<${BackfillsView} />`;
    default:
      return html`<${Heading} title="Nothing here" /><${Empty}>There is no such view.<//>`;
  }
}

/** @param {{ who: Who }} props */
function Forbidden({ who }) {
  const may = who.permissions.map((/** @type {Permission} */ one) => ROLE_WORDS[one]).join('; ');
  return html`<${Heading} title="Not for this role" />
    <div class="notice forbidden" role="alert">
      <p>
        <strong>${who.name} may not see this page.</strong>${' '}
        ${may === '' ? 'Its token has no role that is known here.' : `Its role (${who.role}) may: ${may}.`}
      </p>
      <p>Log in with a token of the role <code>read</code> or above.</p>
    </div>`;
}

/** Says so where a view fails, instead of leaving an empty page. */
function Guarded(/** @type {{ children?: import('preact').ComponentChildren }} */ { children }) {
  const [error, reset] = useErrorBoundary();
  if (error === undefined) return children;
  return html`<div class="notice trouble" role="alert">
    <p><strong>This view failed.</strong> ${String(error)}</p>
    <button onClick=${reset}>Show it again</button>
  </div>`;
}
