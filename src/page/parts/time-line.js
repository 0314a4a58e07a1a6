import { html } from '../html.js';
import { EVENT_WORDS } from '../labels.js';
import { dateAndTime } from '../time.js';
import { sentence, Time } from './common.js';
import { ManifestDetails } from './manifest.js';

/** @import { HistoryEntry, HistoryEvent, SessionView as Session } from '../../domain/views.ts' */

/** Events that are of the colour of a state. */
/** @type {Readonly<Record<HistoryEvent, string>>} */
const COLOURS = {
  enqueued: 'queued',
  retried: 'queued',
  attempt: 'active',
  transferred: 'active',
  waiting: 'waiting',
  partial: 'failed',
  failed: 'failed',
  archived: 'archived',
  rewritten: 'archived',
  held: 'waiting',
  released: 'archived',
};

/** @param {{ session: Session }} props */
export function TimeLine({ session }) {
  const entries = [...(session.history ?? knownOf(session))].sort(
    (a, b) => Date.parse(a.at) - Date.parse(b.at),
  );
  return html`
    <ol class="time-line">
      ${entries.map(
        (entry) => html`<li class=${COLOURS[entry.event]}>
          <p>
            <strong>${EVENT_WORDS[entry.event]}</strong>
            ${entry.by ? html` by ${entry.by}` : ''}
            ${entry.code ? html` <code>${entry.code}</code>` : ''}
          </p>
          ${entry.message ? html`<p>${sentence(entry.message)}</p>` : ''}
          ${entry.detail ? html`<p class="hint">${withTimes(entry.detail)}</p>` : ''}
          <p class="hint"><${Time} at=${entry.at} /></p>
        </li>`,
      )}
    </ol>
    ${session.manifestKey ? html`<${ManifestDetails} session=${session} />` : ''}
  `;
}

/** Replaces the API's times in a text by times as the rest of the page shows them. @param {string} text */
function withTimes(text) {
  return text.replace(/\d{4}-\d{2}-\d{2}T[\d:.]+Z/g, dateAndTime);
}

/**
 * The events that follow from a session's view, where no history is known.
 *
 * @param {Session} session
 * @returns {HistoryEntry[]}
 */
function knownOf({ enqueuedAt, startedAt, finishedAt, state, error }) {
  const failure = error && { code: error.code, message: error.message };
  /** @type {HistoryEntry[]} */
  const entries = [{ at: enqueuedAt, event: 'enqueued' }];
  if (startedAt) entries.push({ at: startedAt, event: 'attempt' });
  if (error && state === 'waiting') entries.push({ at: error.at, event: 'waiting', ...failure });
  if (finishedAt && state === 'failed') entries.push({ at: finishedAt, event: 'failed', ...failure });
  if (finishedAt && state === 'archived') entries.push({ at: finishedAt, event: 'archived' });
  return entries;
}
