import { html } from '../html.js';
import { Heading } from '../parts/common.js';

export function BackfillsView() {
  return html`<${Heading} title="Backfills" />`;
}
