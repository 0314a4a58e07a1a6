import { useEffect, useState } from 'preact/hooks';
import { html } from './html.js';

/**
 * Where the page is.
 *
 * @typedef {{ path: string, query: URLSearchParams }} Place
 */

/** @returns {Place} */
function here() {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

/**
 * Goes somewhere on this page without loading it again.
 *
 * @param {string} address a path of this page, with its query.
 */
export function go(address) {
  // "Back" never leads to what is shown already.
  if (address !== location.pathname + location.search) history.pushState(null, '', address);
  dispatchEvent(new PopStateEvent('popstate'));
}

/** Where the page is, whenever that changes. */
export function usePlace() {
  const [place, setPlace] = useState(here);
  useEffect(() => {
    const follow = () => setPlace(here());
    addEventListener('popstate', follow);
    return () => removeEventListener('popstate', follow);
  }, []);
  return place;
}

/**
 * A link within the page.
 *
 * @param {{ to: string, children?: import('preact').ComponentChildren } & Record<string, unknown>} props
 */
export function Link({ to, children, ...rest }) {
  /** @param {MouseEvent} event */
  const follow = (event) => {
    // What the browser does otherwise: another tab, a download.
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(to);
  };
  return html`<a href=${to} onClick=${follow} ...${rest}>${children}</a>`;
}
