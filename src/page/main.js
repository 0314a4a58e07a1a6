import { render } from 'preact';
import { App } from './app.js';
import { startEvents } from './event-stream.js';
import { html } from './html.js';

const page = document.getElementById('page');
if (page) {
  page.textContent = '';
  startEvents();
  const { logOut, apiDescription } = page.dataset;
  render(html`<${App} canLogOut=${logOut === 'yes'} apiDescription=${apiDescription} />`, page);
}
