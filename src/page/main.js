import { render } from 'preact';
import { App } from './app.js';
import { html } from './html.js';
import { startEvents } from './live.js';

const page = document.getElementById('page');
if (page) {
  page.textContent = '';
  startEvents();
  const { logOut, apiDescription } = page.dataset;
  render(html`<${App} canLogOut=${logOut === 'yes'} apiDescription=${apiDescription} />`, page);
}
