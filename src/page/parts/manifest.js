import { useState } from 'preact/hooks';
import { ask, sessionPath } from '../api.js';
import { html } from '../html.js';
import { INTEGRITY_WORDS } from '../labels.js';
import { number } from '../time.js';
import { Action } from './action.js';

/** @import { SessionView as Session } from '../../domain/views.ts' */
/** @import { Manifest as Document } from '../api-types.js' */

/**
 * The manifest as it lies in the archive, on request: that it was read is in the audit log.
 *
 * @param {{ session: Session }} props
 */
export function ManifestDetails({ session }) {
  const [manifest, setManifest] = useState(/** @type {Document | undefined} */ (undefined));
  const address = sessionPath(session, '/manifest');
  const load = async () => {
    setManifest(/** @type {Document} */ (await ask(address)));
    return 'The manifest is shown.';
  };
  if (manifest === undefined)
    return html`<${Action} label="Show manifest" permission="listen" act=${load} />`;
  return html`<h3>Manifest${manifest.revision === undefined ? '' : `, revision ${number(manifest.revision)}`}</h3>
    <ul class="notes">
      ${(manifest.recordings ?? []).map(({ fileName, audio, integrity }) => {
        const format = [audio?.container, audio?.codec, audio?.sampleRate && `${number(audio.sampleRate)} Hz`]
          .filter(Boolean)
          .join(', ');
        return html`<li>
          <strong>${fileName}</strong>${format === '' ? '' : ` (${format})`}:
          ${INTEGRITY_WORDS[integrity?.state ?? ''] ?? 'Its integrity was not judged.'}
          ${(integrity?.notes ?? []).map((note) => html`<br /><span class="hint">${note}</span>`)}
        </li>`;
      })}
    </ul>
    <details>
      <summary>As it is in the archive</summary>
      <pre tabindex="0">${JSON.stringify(manifest, null, 2)}</pre>
    </details>
    <p class="hint"><a href=${address} download="manifest.json">Download</a></p>`;
}
