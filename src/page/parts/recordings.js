import { sessionPath } from '../api.js';
import { html } from '../html.js';
import { useRefusal } from '../identity.js';
import { INTEGRITY_WORDS } from '../labels.js';
import { bytes, playingTime } from '../time.js';

/** @import { RecordingView } from '../../domain/views.ts' */
/** @import { SessionView as Session } from '../../domain/views.ts' */

/**
 * The recordings of a session, each with a player. Nothing is fetched before somebody presses play: each listen is in
 * the audit log.
 *
 * @param {{ session: Session, recordings: readonly RecordingView[] }} props
 */
export function Recordings({ session, recordings }) {
  const refusal = useRefusal('listen');
  return html`<ul class="recordings">
    ${recordings.map((recording, index) => {
      const name = recording.key.split('/').at(-1) ?? recording.key;
      const address = sessionPath(session, `/recordings/${index}`);
      return html`<li key=${recording.key}>
        <p><strong>${name}</strong></p>
        ${
          refusal === undefined
            ? html`<audio controls preload="none" src=${address} aria-label=${`Play ${name}`}></audio>`
            : html`<p class="notice forbidden">${refusal}</p>`
        }
        <p class="hint">
          ${recording.durationSeconds === undefined ? '' : `${playingTime(recording.durationSeconds)} · `}
          ${bytes(recording.bytes)} · ${recording.contentType}
          ${refusal === undefined ? html` · <a href=${address} download=${name}>Download</a>` : ''}
        </p>
        <p class="integrity ${recording.integrity ?? ''}">
          ${
            recording.integrity === undefined
              ? 'It was archived before integrity was judged.'
              : INTEGRITY_WORDS[recording.integrity]
          }
        </p>
        <p class="hint">SHA-256 <code class="key">${recording.sha256}</code></p>
      </li>`;
    })}
  </ul>`;
}
