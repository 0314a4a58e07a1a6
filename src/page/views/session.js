import { Refusal, sessionPath } from '../api.js';
import { html } from '../html.js';
import { STATE_WORDS, TRANSCRIPT_WORDS } from '../labels.js';
import { Empty, Fact, Heading, Loading, State, sentence, Time, Trouble } from '../parts/common.js';
import { Recordings } from '../parts/recordings.js';
import { SessionActions } from '../parts/session-actions.js';
import { TimeLine } from '../parts/time-line.js';
import { TextOfSession } from '../parts/transcript.js';
import { bytes, number, plural } from '../time.js';
import { useData } from '../use-data.js';

/** @import { SessionView as Session } from '../../domain/views.ts' */
/** @import { Hold } from '../api-types.js' */

/** Soon enough to be seen as it happens (milliseconds). */
const REFRESH_PAUSE_MS = 250;

/**
 * The history of one session, and what of it is archived.
 *
 * @param {{ sessionId: string, botId: string | undefined }} props
 */
export function SessionScreen({ sessionId, botId }) {
  const ref = { sessionId, botId };
  const { data, error, reload } = /** @type {import('../use-data.js').Loaded<Session>} */ (
    useData(sessionPath(ref), { on: (one) => one.sessionId === sessionId, pauseMs: REFRESH_PAUSE_MS })
  );
  const {
    data: hold,
    error: holdError,
    reload: reloadHold,
  } = /** @type {import('../use-data.js').Loaded<Hold>} */ (useData(sessionPath(ref, '/hold')));
  const reloadAll = () => {
    reload();
    reloadHold();
  };
  // A 404 means that the hold was released.
  const held = holdError?.status === 404 ? undefined : hold;
  const session = error?.status === 404 || error?.status === 410 ? undefined : data;
  return html`
    <${Heading} title=${`Session ${sessionId}`}>
      ${session ? html`<${State} state=${session.state} />` : ''}
    <//>
    ${error ? html`<${Absence} error=${error} hasOldData=${session !== undefined} reload=${reload} />` : ''}
    ${
      session
        ? html`<${SessionDetails} session=${session} hold=${held} reload=${reloadAll} />`
        : error
          ? ''
          : html`<${Loading} />`
    }
  `;
}

/** @param {{ error: Refusal, hasOldData: boolean, reload: () => void }} props */
function Absence({ error, hasOldData, reload }) {
  if (error.status === 410) {
    return html`<div class="notice" role="alert"><p><strong>Erased.</strong> ${sentence(error.message)}</p></div>`;
  }
  if (error.status === 404) {
    return html`<div class="notice" role="alert">
      <p><strong>This session is unknown.</strong> ${sentence(error.message)}</p>
      <p class="hint">It may belong to another bot, or it was never queued.</p>
    </div>`;
  }
  return html`<${Trouble} error=${error} what="The session could not be loaded" hasOldData=${hasOldData} onRetry=${reload} />`;
}

/** @param {{ session: Session, hold: Hold | undefined, reload: () => void }} props */
function SessionDetails({ session, hold, reload }) {
  const { state, error, recordings = [], missing = [] } = session;
  return html`
    <p class="hint">${sentence(STATE_WORDS[state])}</p>
    ${
      error && state !== 'archived'
        ? html`<div class="notice ${state === 'failed' ? 'trouble' : ''}">
          <p><strong><code>${error.code}</code></strong> ${sentence(error.message)}</p>
          ${error.hint ? html`<p class="hint">${sentence(error.hint)}</p>` : ''}
        </div>`
        : ''
    }
    ${
      hold
        ? html`<div class="notice held">
          <p><strong>On hold</strong> since <${Time} at=${hold.setAt} />: it can't be erased.${' '}
          ${hold.reason ? html`<span class="hint">${hold.reason}</span>` : ''}</p>
        </div>`
        : ''
    }
    <${SessionActions} session=${session} isHeld=${hold !== undefined} reload=${reload} />
    <div class="session-details">
      <section aria-labelledby="recordings">
        <h2 id="recordings">Recordings</h2>
        ${
          recordings.length === 0
            ? html`<${Empty}>${state === 'archived' ? 'Kore has no recording of this session.' : 'None is archived yet.'}<//>`
            : html`<${Recordings} session=${session} recordings=${recordings} />`
        }
        ${
          missing.length > 0
            ? html`<h3>Not saved</h3>
              <ul class="missing">
                ${missing.map(
                  (one) => html`<li>
                    <strong>${one.fileName}</strong> <code>${one.code}</code> ${sentence(one.message)}${' '}
                    <span class="hint"><${Time} at=${one.at} /></span>
                  </li>`,
                )}
              </ul>`
            : ''
        }
      </section>
      <section aria-labelledby="transcript">
        <h2 id="transcript">Transcript</h2>
        ${
          session.transcript === 'archived'
            ? html`<${TextOfSession} session=${session} />`
            : html`<${Empty}>${session.transcript ? TRANSCRIPT_WORDS[session.transcript] : 'None is archived yet.'}<//>`
        }
      </section>
      <section aria-labelledby="facts">
        <h2 id="facts">Facts</h2>
        <${Facts} session=${session} />
      </section>
      <section aria-labelledby="time-line">
        <h2 id="time-line">What happened</h2>
        <${TimeLine} session=${session} />
      </section>
    </div>
  `;
}

/** @param {{ session: Session }} props */
function Facts({ session }) {
  const { botId, attempts, enqueuedAt, startedAt, finishedAt, nextAttemptAt, progress, manifestKey } =
    session;
  return html`<dl>
    <${Fact} name="Bot"><code>${botId}</code><//>
    <${Fact} name="Attempts">${number(attempts)}<//>
    <${Fact} name="Queued"><${Time} at=${enqueuedAt} /><//>
    <${Fact} name="Started"><${Time} at=${startedAt} /><//>
    ${nextAttemptAt ? html`<${Fact} name="Next attempt"><${Time} at=${nextAttemptAt} /><//>` : ''}
    <${Fact} name="Ended"><${Time} at=${finishedAt} /><//>
    ${
      progress
        ? html`<${Fact} name="Transferred">
          ${number(progress.recordingsDone)} of ${plural(progress.recordings, 'recording')}, ${bytes(progress.bytes)}
        <//>`
        : ''
    }
    ${manifestKey ? html`<${Fact} name="Manifest"><code class="key">${manifestKey}</code><//>` : ''}
  </dl>`;
}
