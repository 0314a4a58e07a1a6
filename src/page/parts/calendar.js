import { html } from '../html.js';
import { day, month, plural } from '../time.js';

/** @import { DayReport } from '../../domain/completeness.ts' */

const WEEKDAYS = ['Mo', 'Tu', 'We', 'Th', 'Fr', 'Sa', 'Su'];

/**
 * What a day looks like: the worst of what is known of it.
 *
 * @typedef {'complete' | 'open' | 'lacking' | 'unknown'} DayState
 */

/** @type {readonly (readonly [DayState, string])[]} */
const LEGEND = [
  ['complete', 'complete'],
  ['open', 'not finished: waiting, or not over yet'],
  ['lacking', 'something is missing or failed'],
  ['unknown', 'not computed'],
];

/** @param {DayReport} report @returns {DayState} */
function stateOf({ complete, reasons, missing, failed, partial }) {
  if (complete) return 'complete';
  if (missing + failed + partial > 0) return 'lacking';
  return reasons.includes('not-computed') || reasons.includes('listing-failed') ? 'unknown' : 'open';
}

/** @param {DayReport} report */
function wordsOf(report) {
  const { listed, missing, failed, partial, waiting } = report;
  if (report.reasons.includes('not-computed')) return 'not computed';
  const parts = [
    missing > 0 ? `${missing} missing` : '',
    failed > 0 ? `${failed} failed` : '',
    partial > 0 ? `${partial} partly saved` : '',
    waiting > 0 ? `${waiting} waiting` : '',
  ].filter(Boolean);
  return `${parts.join(', ') || (report.complete ? 'complete' : 'not finished')} of ${plural(listed, 'session')}`;
}

/**
 * The days as squares, month by month.
 *
 * @param {{ days: readonly DayReport[], chosen: string | undefined, onChoose: (date: string) => void }} props
 */
export function Calendar({ days, chosen, onChoose }) {
  const months = Map.groupBy(days, ({ date }) => date.slice(0, 7));
  return html`<div class="calendar">
      ${[...months].map(
        ([first, reports]) => html`<div role="group" aria-label=${month(`${first}-01`)}>
          <h2>${month(`${first}-01`)}</h2>
          <div class="days">
            ${WEEKDAYS.map((name) => html`<span class="weekday" aria-hidden="true">${name}</span>`)}
            ${Array.from({ length: weekdayOf(reports[0]?.date) }, (_, index) => html`<span key=${index}></span>`)}
            ${reports.map((report) => {
              const words = `${day(report.date)}: ${wordsOf(report)}`;
              return html`<button
                key=${report.date}
                class="day ${stateOf(report)}"
                aria-label=${words}
                aria-pressed=${String(report.date === chosen)}
                title=${words}
                onClick=${() => onChoose(report.date)}
              >${Number(report.date.slice(8))}</button>`;
            })}
          </div>
        </div>`,
      )}
    </div>
    <ul class="key-of-days" aria-label="Colours">
      ${LEGEND.map(([look, words]) => html`<li><span class="day ${look}" aria-hidden="true"></span>${words}</li>`)}
    </ul>`;
}

/** How many days of its week come before it, from Monday on. @param {string | undefined} date */
function weekdayOf(date) {
  return date === undefined ? 0 : (new Date(Date.parse(date)).getUTCDay() + 6) % 7;
}
