import { render } from 'preact';
import { App } from './app.js';
import { html } from './html.js';
import { startEvents } from './live.js';

const page = document.getElementById('page');
if (page) {
  page.textContent = '';
  startEvents();
  render(html`<${App} canLogOut=${page.dataset.logOut === 'yes'} />`, page);
}
