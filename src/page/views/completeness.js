import { html } from '../html.js';
import { Heading } from '../parts/common.js';

export function CompletenessView() {
  return html`<${Heading} title="Completeness" />`;
}
