import { useState } from 'preact/hooks';
import { ask, sessionPath } from '../api.js';
import { html } from '../html.js';
import { Action } from './action.js';

/** @import { SessionView as Session } from '../../domain/views.ts' */

/**
 * The actions on a session.
 *
 * @param {{ session: Session, isHeld: boolean, reload: () => void }} props
 */
export function SessionActions({ session, isHeld, reload }) {
  const { sessionId, botId, state } = session;
  const [reason, setReason] = useState('');
  const isWaiting = state === 'queued' || state === 'waiting';
  const request =
    (
      /** @type {string} */ path,
      /** @type {string} */ method,
      /** @type {unknown} */ json,
      /** @type {string} */ done,
    ) =>
    async () => {
      await ask(path, { method, ...(json !== undefined && { json }) });
      reload();
      return done;
    };
  const reasonField = html`<label class="field">
    <span>Reason; it is kept, so it must not name persons</span>
    <input
      value=${reason}
      maxlength="500"
      onInput=${(/** @type {InputEvent} */ event) =>
        setReason(/** @type {HTMLInputElement} */ (event.target).value)}
    />
  </label>`;
  const because = reason.trim() === '' ? {} : { reason: reason.trim() };
  return html`<div class="actions" role="group" aria-label="Actions">
    <${Action}
      label="Retry"
      permission="operate"
      kind="primary"
      unavailable=${state === 'failed' ? undefined : 'Only a failed session can be retried.'}
      act=${request(sessionPath(session, '/retry'), 'POST', undefined, 'The session is queued again.')}
    />
    <${Action}
      label="Cancel"
      permission="operate"
      unavailable=${isWaiting ? undefined : 'Only a queued or waiting session can be cancelled.'}
      question="The session is taken out of the queue. What is archived of it stays."
      act=${request(sessionPath(session), 'DELETE', undefined, 'The session is taken out of the queue.')}
    />
    <${Action}
      label="Archive again"
      permission="enqueue"
      unavailable=${state === 'archived' || state === 'failed' ? undefined : 'It is in the queue already.'}
      question="The session is fetched from Kore again and its manifest gets a new revision. What the manifest named before stays."
      act=${request('/v1/sessions', 'POST', { sessionIds: [sessionId], botId, force: true }, 'The session is queued to be archived again.')}
    />
    ${
      isHeld
        ? html`<${Action}
          label="Release hold"
          permission="operate"
          question="The session can be erased again."
          act=${request(sessionPath(session, '/hold'), 'DELETE', undefined, 'The hold is released.')}
        />`
        : html`<${Action}
          label="Hold"
          permission="operate"
          question="As long as it is on hold, nobody can erase the session."
          act=${request(sessionPath(session, '/hold'), 'PUT', because, 'The session is on hold.')}
        >${reasonField}<//>`
    }
    <${Action}
      label="Erase"
      permission="erase"
      kind="danger"
      unavailable=${isHeld ? 'It is on hold: release the hold first.' : undefined}
      question="All versions of all its objects are deleted for good, and nothing archives the session again."
      typed=${sessionId}
      act=${request(sessionPath(session, '/erase'), 'POST', because, 'The session is erased.')}
    >${reasonField}<//>
  </div>`;
}
