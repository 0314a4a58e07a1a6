import { html } from '../html.js';
import { Heading } from '../parts/common.js';

export function FailuresView() {
  return html`<${Heading} title="Failures" />`;
}
