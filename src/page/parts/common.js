import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { Refusal } from '../api.js';
import { html } from '../html.js';
import { dateAndTime, relative } from '../time.js';

/** @import { ComponentChildren } from 'preact' */
/** @import { SessionState } from '../../domain/views.ts' */

/**
 * A time with its date and zone; how long ago that is, on hover and focus.
 *
 * @param {{ at: string | undefined, none?: string }} props
 */
export function Time({ at, none = '–' }) {
  const [title, setTitle] = useState('');
  if (at === undefined) return html`<span class="none">${none}</span>`;
  const showAge = () => setTitle(relative(at));
  return html`<time datetime=${at} title=${title || relative(at)} onMouseEnter=${showAge}>${dateAndTime(at)}</time>`;
}

/** @param {{ state: SessionState }} props */
export function State({ state }) {
  return html`<span class="state ${state}">${state}</span>`;
}

/**
 * The heading of a view. It takes the focus when the view opens, for users of screen readers.
 *
 * @param {{ title: string, children?: ComponentChildren }} props
 */
export function Heading({ title, children }) {
  /** @type {{ current: HTMLHeadingElement | null }} */
  const heading = useRef(null);
  useEffect(() => {
    document.title = `${title} · Voicemail Archiver`;
  }, [title]);
  useLayoutEffect(() => {
    // Not on the first view: there the browser's own order holds.
    if (document.activeElement !== document.body) heading.current?.focus();
  }, []);
  return html`<div class="heading"><h1 tabindex="-1" ref=${heading}>${title}</h1>${children}</div>`;
}

/** Gives the focus to the heading of the view. */
export function focusHeading() {
  document.querySelector('h1')?.focus();
}

/** @param {{ what?: string }} props */
export function Loading({ what = 'Loading' }) {
  return html`<p class="loading" role="status">${what}…</p>`;
}

/** @param {{ children: ComponentChildren }} props */
export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** In place of a view whose data the browser may no longer have. */
export function LogInAgain() {
  const next = encodeURIComponent(location.pathname + location.search);
  return html`<${Heading} title="Logged out" />
    <div class="notice trouble" role="alert">
      <p><strong>Your log-in has ended.</strong> <a href=${`/login?next=${next}`}>Log in again</a></p>
    </div>`;
}

/**
 * A failure or a refusal of the API, in words.
 *
 * @param {{ error: Refusal, what: string, hasOldData?: boolean, onRetry?: () => void }} props `what`: "The sessions
 *   could not be loaded".
 */
export function Trouble({ error, what, hasOldData = false, onRetry }) {
  const { status, code, message, hint } = error;
  if (status === 403) {
    return html`<div class="notice forbidden" role="alert">
      <p><strong>You may not see this.</strong> ${sentence(message)}</p>
    </div>`;
  }
  return html`<div class="notice trouble" role="alert">
    <p>
      <strong>${what}.</strong> ${sentence(message)}${' '}
      ${hint ? html`<span class="hint">${sentence(hint)}</span>${' '}` : ''}
      <code>${code}</code>
    </p>
    ${hasOldData ? html`<p>What is shown below is from before.</p>` : ''}
    ${onRetry ? html`<button onClick=${onRetry}>Try again</button>` : ''}
  </div>`;
}

/**
 * A text as a sentence: with a capital and a full stop.
 *
 * @param {string} text
 */
export function sentence(text) {
  const trimmed = text.trim();
  return trimmed === ''
    ? ''
    : trimmed[0]?.toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? '' : '.');
}

/**
 * A label with its value.
 *
 * @param {{ name: string, children?: ComponentChildren }} props
 */
export function Fact({ name, children }) {
  return html`<div class="fact"><dt>${name}</dt><dd>${children}</dd></div>`;
}
