import { html } from '../html.js';
import { EVENT_WORDS } from '../words.js';
import { sentence, Time } from './common.js';
import { Manifest } from './manifest.js';

/** @import { HistoryEntry, Session } from '../shapes.js' */

/** Events that are of the colour of a state. */
/** @type {Readonly<Record<string, string>>} */
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
};

/** @param {{ session: Session }} props */
export function TimeLine({ session }) {
  const entries = [...(session.history ?? knownOf(session))].sort(
    (a, b) => Date.parse(a.at) - Date.parse(b.at),
  );
  return html`
    <ol class="time-line">
      ${entries.map(
        (entry) => html`<li class=${COLOURS[entry.event] ?? ''}>
          <p>
            <strong>${EVENT_WORDS[entry.event] ?? entry.event}</strong>
            ${entry.by ? html` by ${entry.by}` : ''}
            ${entry.code ? html` <code>${entry.code}</code>` : ''}
          </p>
          ${entry.message ? html`<p>${sentence(entry.message)}</p>` : ''}
          ${entry.detail ? html`<p class="hint">${entry.detail}</p>` : ''}
          <p class="hint"><${Time} at=${entry.at} /></p>
        </li>`,
      )}
    </ol>
    ${session.manifestKey ? html`<${Manifest} session=${session} />` : ''}
  `;
}

/**
 * What a session's view tells by itself, where no history is known.
 *
 * @param {Session} session
 * @returns {HistoryEntry[]}
 */
function knownOf({ enqueuedAt, startedAt, finishedAt, state, error }) {
  return [
    { at: enqueuedAt, event: 'enqueued' },
    ...(startedAt ? [{ at: startedAt, event: 'attempt' }] : []),
    ...(error && state === 'waiting'
      ? [{ at: error.at, event: 'waiting', code: error.code, message: error.message }]
      : []),
    ...(finishedAt
      ? [
          {
            at: finishedAt,
            event: state,
            ...(error && state === 'failed' && { code: error.code, message: error.message }),
          },
        ]
      : []),
  ];
}
