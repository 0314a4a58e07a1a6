import { useState } from 'preact/hooks';
import { ask } from '../api.js';
import { html } from '../html.js';
import { duration } from '../time.js';
import { useData } from '../use-data.js';
import { Action } from './action.js';
import { Empty, Loading, Time, Trouble } from './common.js';

/** @import { Schedule } from '../api-types.js' */

const REFRESH_MS = 30_000;

/** Backfills on a timetable. */
export function Schedules() {
  const { data, error, reload } =
    /** @type {import('../use-data.js').Loaded<{ schedules: readonly Schedule[] }>} */ (
      useData('/v1/schedules', { everyMs: REFRESH_MS })
    );
  return html`<section aria-labelledby="schedules">
    <div class="row">
      <h2 id="schedules">Schedules</h2>
      <span class="end"><${SetSchedule} reload=${reload} /></span>
    </div>
    ${error ? html`<${Trouble} error=${error} what="The schedules could not be listed" onRetry=${reload} />` : ''}
    ${data ? html`<${List} schedules=${data.schedules} reload=${reload} />` : error ? '' : html`<${Loading} />`}
  </section>`;
}

/** @param {{ reload: () => void }} props */
function SetSchedule({ reload }) {
  const [name, setName] = useState('');
  const [cron, setCron] = useState('0 3 * * *');
  const [lookback, setLookback] = useState('48h');
  const set = async () => {
    await ask(`/v1/schedules/${encodeURIComponent(name.trim())}`, {
      method: 'PUT',
      json: { cron: cron.trim(), lookback: lookback.trim() },
    });
    reload();
    return `The schedule ${name.trim()} is set.`;
  };
  /** @param {(text: string) => void} change */
  const given = (change) => (/** @type {Event} */ event) =>
    change(/** @type {HTMLInputElement} */ (event.target).value);
  return html`<${Action}
    label="Set a schedule"
    permission="operate"
    question="A backfill is started at the times of a cron expression, in UTC. One of the same name is replaced."
    act=${set}
  >
    <label class="field"><span>Name</span>
      <input required value=${name} maxlength="64" spellcheck=${false} onInput=${given(setName)} />
    </label>
    <label class="field"><span>Cron expression (UTC): minute, hour, day, month, weekday</span>
      <input required value=${cron} spellcheck=${false} onInput=${given(setCron)} />
    </label>
    <label class="field"><span>How far back each run goes, as 48h or 14d</span>
      <input required value=${lookback} spellcheck=${false} onInput=${given(setLookback)} />
    </label>
  <//>`;
}

/** @param {{ schedules: readonly Schedule[], reload: () => void }} props */
function List({ schedules, reload }) {
  if (schedules.length === 0) return html`<${Empty}>Nothing is on a timetable.<//>`;
  const remove = (/** @type {string} */ name) => async () => {
    await ask(`/v1/schedules/${encodeURIComponent(name)}`, { method: 'DELETE' });
    reload();
    return `The schedule ${name} is removed.`;
  };
  return html`<div class="scroll" tabindex="0" role="group" aria-labelledby="schedules"><table>
    <thead>
      <tr>
        <th scope="col">Name</th><th scope="col">Cron (UTC)</th><th scope="col">Goes back</th>
        <th scope="col">Next run</th><th scope="col"><span class="hidden">Actions</span></th>
      </tr>
    </thead>
    <tbody>
      ${schedules.map(
        ({ name, cron, lookbackMs, nextRunAt }) => html`<tr key=${name}>
          <th scope="row">${name}</th>
          <td><code>${cron}</code></td>
          <td>${duration(lookbackMs / 1_000)}</td>
          <td><${Time} at=${nextRunAt} /></td>
          <td>
            <${Action}
              label=${`Remove ${name}`}
              permission="operate"
              question="No more backfills are started by it. One that SCHEDULES declares comes back while workers run with it."
              act=${remove(name)}
            />
          </td>
        </tr>`,
      )}
    </tbody>
  </table></div>`;
}
