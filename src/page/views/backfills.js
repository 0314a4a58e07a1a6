import { useState } from 'preact/hooks';
import { ask } from '../api.js';
import { html } from '../html.js';
import { Action } from '../parts/action.js';
import { Empty, Heading, Loading, sentence, Time, Trouble } from '../parts/common.js';
import { Schedules } from '../parts/schedules.js';
import { duration, number } from '../time.js';
import { useData } from '../use-data.js';

/** @import { Backfill } from '../api-types.js' */

const REFRESH_MS = 2_000;
/** States in which nothing more is looked through. */
const ENDED = ['listed', 'cancelled', 'failed'];

/** Backfills, and their timetable. */
export function BackfillsView() {
  const { data, error, reload } =
    /** @type {import('../use-data.js').Loaded<{ backfills: readonly Backfill[] }>} */ (
      useData('/v1/backfills', { everyMs: REFRESH_MS })
    );
  return html`
    <${Heading} title="Backfills and schedules">
      <${Start} reload=${reload} />
    <//>
    ${
      error
        ? html`<${Trouble}
          error=${error}
          what="The backfills could not be listed"
          hasOldData=${data !== undefined}
          onRetry=${reload}
        />`
        : ''
    }
    <section aria-labelledby="backfills">
      <h2 id="backfills">Backfills</h2>
      ${data ? html`<${List} backfills=${data.backfills} reload=${reload} />` : error ? '' : html`<${Loading} />`}
    </section>
    <${Schedules} />
  `;
}

/** @param {{ reload: () => void }} props */
function Start({ reload }) {
  const [from, setFrom] = useState(localInput(Date.now() - 86_400_000));
  const [to, setTo] = useState('');
  const [source, setSource] = useState('');
  const [isDryRun, setDryRun] = useState(false);
  const start = async () => {
    await ask('/v1/backfills', {
      method: 'POST',
      json: {
        from: inUtc(from),
        ...(to !== '' && { to: inUtc(to) }),
        ...(source !== '' && { source }),
        ...(isDryRun && { dryRun: true }),
      },
    });
    reload();
    return 'The backfill is started.';
  };
  /** @param {(text: string) => void} set */
  const given = (set) => (/** @type {Event} */ event) =>
    set(/** @type {HTMLInputElement | HTMLSelectElement} */ (event.target).value);
  return html`<${Action}
    label="Start a backfill"
    kind="primary"
    permission="operate"
    question="Kore's sessions of a stretch of time are listed. What the archive does not have is queued behind live sessions."
    act=${start}
  >
    <label class="field"><span>From (UTC)</span>
      <input type="datetime-local" required value=${from} onInput=${given(setFrom)} />
    </label>
    <label class="field"><span>To (UTC); without it, up to now</span>
      <input type="datetime-local" value=${to} onInput=${given(setTo)} />
    </label>
    <label class="field"><span>Kore's listing</span>
      <select value=${source} onChange=${given(setSource)}>
        <option value="">the first that works</option>
        <option value="calls">call details</option>
        <option value="sessions">sessions history</option>
      </select>
    </label>
    <label class="field check">
      <input
        type="checkbox"
        checked=${isDryRun}
        onChange=${(/** @type {Event} */ event) => setDryRun(/** @type {HTMLInputElement} */ (event.target).checked)}
      />
      <span>Only find out what is missing</span>
    </label>
  <//>`;
}

/** The time in UTC of such a field. @param {string} text */
function inUtc(text) {
  return new Date(`${text}Z`).toISOString();
}

/** As a field for date and time wants it, in UTC. @param {number} time */
function localInput(time) {
  return new Date(time).toISOString().slice(0, 'YYYY-MM-DDTHH:MM'.length);
}

/** @param {{ backfills: readonly Backfill[], reload: () => void }} props */
function List({ backfills, reload }) {
  if (backfills.length === 0) return html`<${Empty}>No backfill is known.<//>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-labelledby="backfills"><table>
    <thead>
      <tr>
        <th scope="col">Stretch of time</th><th scope="col">State</th><th scope="col">Looked through</th>
        <th scope="col" class="number">Queued</th><th scope="col" class="number">Archived</th>
        <th scope="col" class="number">Failed</th><th scope="col" class="number">Open</th>
        <th scope="col">Started</th><th scope="col"><span class="hidden">Actions</span></th>
      </tr>
    </thead>
    <tbody>
      ${backfills.map((one) => html`<${Row} key=${one.id} backfill=${one} reload=${reload} />`)}
    </tbody>
  </table></div>`;
}

/** @param {{ backfill: Backfill, reload: () => void }} props */
function Row({ backfill, reload }) {
  const { id, from, to, state, dryRun, error, enqueuedAt, nextAttemptAt } = backfill;
  const cancel = async () => {
    await ask(`/v1/backfills/${encodeURIComponent(id)}`, { method: 'DELETE' });
    reload();
    return 'The backfill is cancelled: nothing more is looked through.';
  };
  return html`<tr>
    <th scope="row">
      <${Time} at=${from} /><br />
      <span class="hint">${duration((Date.parse(to) - Date.parse(from)) / 1_000)}${dryRun ? ', only to find out' : ''}</span>
    </th>
    <td>
      ${state}
      ${error ? html`<br /><code>${error.code}</code> <span class="hint">${sentence(error.message)}</span>` : ''}
      ${nextAttemptAt ? html`<br /><span class="hint">again <${Time} at=${nextAttemptAt} /></span>` : ''}
    </td>
    <td><${Progress} backfill=${backfill} /></td>
    <td class="number">${dryRun ? html`${number(backfill.missing)} <span class="hint">missing</span>` : number(backfill.queued)}</td>
    <td class="number">${number(backfill.archived)}</td>
    <td class="number">${number(backfill.failed)}</td>
    <td class="number">${number(backfill.open)}</td>
    <td><${Time} at=${enqueuedAt} /></td>
    <td>
      ${
        ENDED.includes(state)
          ? ''
          : html`<${Action}
            label="Cancel"
            permission="operate"
            question="Nothing more is looked through. What it has queued stays queued."
            act=${cancel}
          />`
      }
    </td>
  </tr>`;
}

/** @param {{ backfill: Backfill }} props */
function Progress({ backfill: { from, to, state, listed, listedTo } }) {
  const start = Date.parse(from);
  const whole = Math.max(1, Date.parse(to) - start);
  const isListed = state === 'listed';
  const done = isListed ? whole : listedTo === undefined ? 0 : Date.parse(listedTo) - start;
  return html`<progress aria-label="Stretch of time looked through" max=${whole} value=${Math.min(whole, Math.max(0, done))}></progress>
    <br /><span class="hint">${number(listed)} sessions</span>`;
}
