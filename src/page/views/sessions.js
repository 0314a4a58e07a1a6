import { useEffect, useState } from 'preact/hooks';
import { ask, query as queryOf, Refusal } from '../api.js';
import { html } from '../html.js';
import { STATES } from '../labels.js';
import { Empty, Heading, Loading, State, Time, Trouble } from '../parts/common.js';
import { go, Link } from '../router.js';
import { number, plural } from '../time.js';
import { useData } from '../use-data.js';

/** @import { SessionView } from '../../domain/views.ts' */
/** @import { CodeMeaning, SessionPage } from '../api-types.js' */

const PAGE_SIZE = 50;
/** Time for a list to be read between two changes of it. */
const REFRESH_PAUSE_MS = 2_000;
const ID = /^[A-Za-z0-9_-]{1,128}$/;

/**
 * Where is my voicemail? The address holds the search, so that it can be shared.
 *
 * @param {{ query: URLSearchParams }} props
 */
export function SessionsView({ query }) {
  const filter = filterOf(query);
  const path = `/v1/sessions${queryOf({ ...apiFilter(filter), limit: PAGE_SIZE })}`;
  const { data, error, isLoading, reload } = /** @type {import('../use-data.js').Loaded<SessionPage>} */ (
    useData(path, { on: () => true, pauseMs: REFRESH_PAUSE_MS })
  );
  const [more, setMore] = useState(
    /** @returns {{ path: string, pages: SessionPage[] }} */ () => ({ path, pages: [] }),
  );
  const [moreError, setMoreError] = useState(/** @type {Refusal | undefined} */ (undefined));
  const pages = [...(data ? [data] : []), ...(more.path === path ? more.pages : [])];
  const sessions = unique(pages.flatMap((page) => page.sessions));
  const cursor = pages.at(-1)?.nextCursor;

  const loadMore = async () => {
    try {
      setMoreError(undefined);
      const next = /** @type {SessionPage} */ (
        await ask(`/v1/sessions${queryOf({ ...apiFilter(filter), limit: PAGE_SIZE, cursor })}`)
      );
      setMore((before) => ({ path, pages: [...(before.path === path ? before.pages : []), next] }));
    } catch (thrown) {
      if (!(thrown instanceof Refusal)) throw thrown;
      setMoreError(thrown);
    }
  };
  return html`
    <${Heading} title="Sessions" />
    <${Search} filter=${filter} />
    ${
      error
        ? html`<${Trouble}
          error=${error}
          what="The sessions could not be listed"
          hasOldData=${data !== undefined}
          onRetry=${reload}
        />`
        : ''
    }
    ${
      ID.test(filter.q)
        ? html`<p>
          <${Link} to=${`/sessions/${encodeURIComponent(filter.q)}`}>Open session <code>${filter.q}</code><//>${' '}
          <span class="hint">also one that only the archive still knows</span>
        </p>`
        : ''
    }
    ${isLoading ? html`<${Loading} what="Looking" />` : ''}
    ${data && sessions.length === 0 ? html`<${Empty}>No session in the queue is like that.<//>` : ''}
    ${sessions.length > 0 ? html`<${Table} sessions=${sessions} />` : ''}
    ${
      data
        ? html`<p class="hint" role="status">
          ${plural(sessions.length, 'session')} shown${cursor === undefined ? '.' : ', there are more.'}
        </p>`
        : ''
    }
    ${moreError ? html`<${Trouble} error=${moreError} what="More could not be listed" />` : ''}
    ${cursor === undefined ? '' : html`<button onClick=${loadMore}>Show more</button>`}
  `;
}

/** @typedef {{ q: string, state: string, code: string, bot: string, day: string }} Filter */

/**
 * @param {URLSearchParams} query
 * @returns {Filter}
 */
function filterOf(query) {
  const text = (/** @type {string} */ name) => query.get(name)?.trim() ?? '';
  return { q: text('q'), state: text('state'), code: text('code'), bot: text('bot'), day: text('day') };
}

/** @param {Filter} filter */
function apiFilter({ q, state, code, bot, day }) {
  const start = /^\d{4}-\d{2}-\d{2}$/.test(day) ? Date.parse(day) : Number.NaN;
  return {
    q,
    state,
    code,
    botId: bot,
    ...(!Number.isNaN(start) && {
      from: new Date(start).toISOString(),
      to: new Date(start + 86_399_999).toISOString(),
    }),
  };
}

/** @param {{ filter: Filter }} props */
function Search({ filter }) {
  const [given, setGiven] = useState(filter);
  const address = JSON.stringify(filter);
  useEffect(() => setGiven(/** @type {Filter} */ (JSON.parse(address))), [address]);
  const { data } = /** @type {import('../use-data.js').Loaded<{ codes: readonly CodeMeaning[] }>} */ (
    useData('/v1/error-codes')
  );
  const codes = data?.codes.map(({ code }) => code) ?? (filter.code === '' ? [] : [filter.code]);
  const set = (/** @type {Partial<Filter>} */ change) => {
    const next = { ...given, ...change };
    setGiven(next);
    return next;
  };
  const search = (/** @type {Filter} */ next) => go(`/sessions${queryOf({ ...next })}`);
  const textOf = (/** @type {Event} */ event) =>
    /** @type {HTMLInputElement | HTMLSelectElement} */ (event.target).value.trim();
  return html`<form
    class="filters"
    role="search"
    onSubmit=${(/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      search(given);
    }}
  >
    <label class="field wide">
      <span>Session id, or a part of it</span>
      <input
        type="search"
        value=${given.q}
        minlength="3"
        maxlength="128"
        spellcheck=${false}
        autocomplete="off"
        onInput=${(/** @type {Event} */ event) => set({ q: textOf(event) })}
      />
    </label>
    <label class="field">
      <span>State</span>
      <select value=${given.state} onChange=${(/** @type {Event} */ event) => search(set({ state: textOf(event) }))}>
        <option value="">any</option>
        ${[...STATES, 'partial'].map((state) => html`<option value=${state}>${state}</option>`)}
      </select>
    </label>
    <label class="field">
      <span>Code</span>
      <select value=${given.code} onChange=${(/** @type {Event} */ event) => search(set({ code: textOf(event) }))}>
        <option value="">any</option>
        ${codes.map((code) => html`<option value=${code}>${code}</option>`)}
      </select>
    </label>
    <label class="field">
      <span>Bot</span>
      <input
        value=${given.bot}
        maxlength="128"
        spellcheck=${false}
        onInput=${(/** @type {Event} */ event) => set({ bot: textOf(event) })}
      />
    </label>
    <label class="field">
      <span>Queued on (UTC)</span>
      <input type="date" value=${given.day} onChange=${(/** @type {Event} */ event) => search(set({ day: textOf(event) }))} />
    </label>
    <button class="primary">Search</button>
  </form>`;
}

/** @param {{ sessions: readonly SessionView[] }} props */
function Table({ sessions }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Sessions"><table class="sessions">
    <thead>
      <tr>
        <th scope="col">Session</th><th scope="col">State</th><th scope="col">Last error, next attempt</th>
        <th scope="col" class="number">Attempts</th><th scope="col">Queued</th><th scope="col">Ended</th>
      </tr>
    </thead>
    <tbody>
      ${sessions.map(
        (session) => html`<tr key=${`${session.botId} ${session.sessionId}`}>
          <th scope="row">
            <${Link} to=${addressOf(session)}><code>${session.sessionId}</code><//>
          </th>
          <td><${State} state=${session.state} /></td>
          <td>
            ${
              session.error && session.state !== 'archived'
                ? html`<code title=${session.error.message}>${session.error.code}</code> `
                : ''
            }
            ${session.nextAttemptAt ? html`<span class="hint">again <${Time} at=${session.nextAttemptAt} /></span>` : ''}
          </td>
          <td class="number">${number(session.attempts)}</td>
          <td><${Time} at=${session.enqueuedAt} /></td>
          <td><${Time} at=${session.finishedAt} /></td>
        </tr>`,
      )}
    </tbody>
  </table></div>`;
}

/** @param {Pick<SessionView, 'sessionId' | 'botId'>} session */
function addressOf({ sessionId, botId }) {
  return `/sessions/${encodeURIComponent(sessionId)}${queryOf({ botId })}`;
}

/**
 * Sessions change between two pages, and may be on both.
 *
 * @param {readonly SessionView[]} sessions
 */
function unique(sessions) {
  return [...new Map(sessions.map((one) => [`${one.botId} ${one.sessionId}`, one])).values()];
}
