import { query as queryOf } from '../api.js';
import { html } from '../html.js';
import { Calendar } from '../parts/calendar.js';
import { Empty, Heading, Loading, Trouble } from '../parts/common.js';
import { DayDetail } from '../parts/day-detail.js';
import { go } from '../router.js';
import { useData } from '../use-data.js';

/** @import { DayReport } from '../../domain/completeness.ts' */

const DAY_MS = 86_400_000;
/** Days in the calendar, today included. */
const DAYS = 35;
const REFRESH_MS = 60_000;

/**
 * What is missing: a square a day, and the chosen day.
 *
 * @param {{ query: URLSearchParams }} props
 */
export function CompletenessView({ query }) {
  const chosen = query.get('day') ?? undefined;
  const now = Date.now();
  const to = dayOf(now);
  const from = dayOf(now - (DAYS - 1) * DAY_MS);
  const { data, error, reload } =
    /** @type {import('../use-data.js').Loaded<{ days: readonly DayReport[] }>} */ (
      useData(`/v1/completeness${queryOf({ from, to })}`, { everyMs: REFRESH_MS })
    );
  const report = data?.days.find(({ date }) => date === chosen);
  return html`
    <${Heading} title="Completeness" />
    <p class="hint">Each day (UTC) at Kore compared with the archive and the queue, as the last run found it.</p>
    ${
      error
        ? html`<${Trouble}
          error=${error}
          what="The reports could not be loaded"
          hasOldData=${data !== undefined}
          onRetry=${reload}
        />`
        : ''
    }
    ${
      data
        ? html`
          <section aria-label="Days">
            <${Calendar}
              days=${data.days}
              chosen=${chosen}
              onChoose=${(/** @type {string} */ date) => go(`/completeness?day=${date}`)}
            />
          </section>
          ${
            report
              ? html`<${DayDetail} key=${report.date} report=${report} reload=${reload} />`
              : html`<${Empty}>Choose a day to see what is missing of it.<//>`
          }
        `
        : error
          ? ''
          : html`<${Loading} />`
    }
  `;
}

/** @param {number} time */
function dayOf(time) {
  return new Date(time).toISOString().slice(0, 10);
}
