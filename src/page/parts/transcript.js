import { useState } from 'preact/hooks';
import { ask, Refusal, sessionPath } from '../api.js';
import { html } from '../html.js';
import { useRefusal } from '../identity.js';
import { dateAndTime } from '../time.js';
import { Action } from './action.js';
import { Trouble } from './common.js';

/** @import { SessionView as Session } from '../../domain/views.ts' */

/** @typedef {{ id?: string, text?: string, createdAt?: string, authorType?: string, authorId?: string }} Spoken */

/**
 * The transcript. It is fetched on request, and kept while it is shown: it is personal data,
 * and each reading is in the audit log.
 *
 * @param {{ session: Session }} props
 */
export function TextOfSession({ session }) {
  const refusal = useRefusal('listen');
  const [text, setText] = useState(
    /** @type {{ language?: string, text?: string, messages?: readonly Spoken[] } | undefined} */ (undefined),
  );
  const [error, setError] = useState(/** @type {Refusal | undefined} */ (undefined));
  if (refusal !== undefined) return html`<p class="notice forbidden">${refusal}</p>`;

  const address = sessionPath(session, '/transcript');
  const load = async () => {
    try {
      setError(undefined);
      setText(/** @type {{ messages?: readonly Spoken[] }} */ (await ask(address)));
      return 'The transcript is shown.';
    } catch (thrown) {
      if (thrown instanceof Refusal) setError(thrown);
      throw thrown;
    }
  };
  if (text === undefined) {
    return html`
      ${error ? html`<${Trouble} error=${error} what="The transcript could not be loaded" />` : ''}
      <${Action} label="Show transcript" permission="listen" act=${load} />
      <p class="hint">That you read it is written into the audit log.</p>
    `;
  }
  const messages = text.messages ?? [];
  return html`
    ${
      messages.length === 0
        ? html`<p>${text.text ?? ''}</p>`
        : html`<ol class="transcript">
          ${messages.map(
            (one) => html`<li>
              <p>${one.text ?? ''}</p>
              <p class="hint">${[one.authorType, one.createdAt && dateAndTime(one.createdAt)].filter(Boolean).join(' · ')}</p>
            </li>`,
          )}
        </ol>`
    }
    <p class="hint">
      ${text.language ? `Language: ${text.language} · ` : ''}<a href=${address} download="transcript.json">Download</a>
      ${' · '}<button class="plain" onClick=${() => setText(undefined)}>Hide</button>
    </p>
  `;
}
