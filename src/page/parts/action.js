import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { Refusal } from '../api.js';
import { html } from '../html.js';
import { useRefusal } from '../identity.js';
import { focusHeading, sentence } from './common.js';

/** @import { ComponentChildren } from 'preact' */
/** @import { Permission } from '../identity.js' */

/**
 * A button for an action. It asks first where there is a question, and shows the result.
 *
 * @typedef {object} ActionProps
 * @property {string} label
 * @property {Permission} permission
 * @property {() => Promise<string>} act does it, and resolves with the message to show: "3 sessions are queued again."
 * @property {string} [question] asked first: what will happen.
 * @property {ComponentChildren} [children] more of the question: fields.
 * @property {string} [typed] a text that has to be typed before it is done.
 * @property {'primary' | 'danger'} [kind]
 * @property {string} [unavailable] why there is nothing to do now.
 */

/** @param {ActionProps} props */
export function Action({ label, permission, act, question, children, typed, kind, unavailable }) {
  const refusal = useRefusal(permission);
  const [isAsking, setAsking] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const why = refusal ?? unavailable;

  const run = async () => {
    setBusy(true);
    try {
      showMessage({ level: 'ok', text: await act() });
      setAsking(false);
    } catch (error) {
      showMessage({ level: 'trouble', text: failure(label, error) });
      setAsking(false);
    } finally {
      setBusy(false);
    }
  };
  const isAsked = question !== undefined;
  /** @type {{ current: HTMLButtonElement | null }} */
  const button = useRef(null);
  useLayoutEffect(() => {
    const own = button.current;
    return () => {
      // What it did has removed it: who uses the keyboard goes on at the heading, not before the page's beginning.
      if (own !== null && own === document.activeElement) focusHeading();
    };
  }, []);
  return html`<span class="action">
    <button
      ref=${button}
      class=${kind ?? ''}
      aria-disabled=${why === undefined && !isBusy ? undefined : 'true'}
      title=${why}
      onClick=${() => {
        if (isBusy) return;
        if (why !== undefined) showMessage({ level: 'trouble', text: why });
        else if (isAsked) setAsking(true);
        else void run();
      }}
    >${label}</button>
    ${
      isAsking
        ? html`<${Question}
          title=${label}
          text=${question}
          typed=${typed}
          kind=${kind}
          isBusy=${isBusy}
          onYes=${run}
          onNo=${() => setAsking(false)}
        >${children}<//>`
        : ''
    }
  </span>`;
}

/**
 * @param {string} label
 * @param {unknown} error
 */
function failure(label, error) {
  if (!(error instanceof Refusal)) return `${label}: this page failed: ${error}`;
  if (error.status === 401) return 'Your log-in has ended. Log in again.';
  const hint = error.hint === undefined ? '' : ` ${sentence(error.hint)}`;
  return `${label}: ${sentence(error.message)}${hint}`;
}

/**
 * @param {{
 *   title: string, text: string, typed?: string, kind?: string, isBusy: boolean,
 *   onYes: () => void, onNo: () => void, children?: ComponentChildren,
 * }} props
 */
function Question({ title, text, typed, kind, isBusy, onYes, onNo, children }) {
  /** @type {{ current: HTMLDialogElement | null }} */
  const dialog = useRef(null);
  const [given, setGiven] = useState('');
  // With the markup, not after the next paint: text that is typed until then would be lost.
  useLayoutEffect(() => {
    const before = document.activeElement;
    const box = dialog.current;
    box?.showModal();
    return () => {
      // While it is open, nothing outside of it takes the focus.
      box?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  const isReady = !isBusy && (typed === undefined || given.trim() === typed);
  return html`<dialog ref=${dialog} aria-labelledby="question" onClose=${onNo}>
    <form
      onSubmit=${(/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        if (isReady) onYes();
      }}
    >
      <h2 id="question">${title}</h2>
      <p>${text}</p>
      ${children}
      ${
        typed === undefined
          ? ''
          : html`<label class="field">
            <span>To confirm, type <code>${typed}</code></span>
            <input
              value=${given}
              autocomplete="off"
              spellcheck=${false}
              onInput=${(/** @type {InputEvent} */ event) =>
                setGiven(/** @type {HTMLInputElement} */ (event.target).value)}
            />
          </label>`
      }
      <div class="buttons">
        <button type="button" onClick=${onNo}>Leave it</button>
        <button class=${kind ?? 'primary'} disabled=${!isReady}>${title}</button>
      </div>
    </form>
  </dialog>`;
}

/**
 * The result of an action, for people.
 *
 * @typedef {{ level: 'ok' | 'trouble', text: string }} Message
 */

/** How long a good message stays (milliseconds); others stay until they are closed. */
const MESSAGE_MS = 8_000;
/** @type {Set<(message: Message) => void>} */
const messageListeners = new Set();

/** @param {Message} message */
export function showMessage(message) {
  for (const listener of messageListeners) listener(message);
}

/** Shows messages; screen readers read them aloud. */
export function Messages() {
  const [message, setMessage] = useState(/** @type {Message | undefined} */ (undefined));
  useEffect(() => {
    messageListeners.add(setMessage);
    return () => void messageListeners.delete(setMessage);
  }, []);
  useEffect(() => {
    if (message?.level !== 'ok') return undefined;
    const timer = setTimeout(() => setMessage(undefined), MESSAGE_MS);
    return () => clearTimeout(timer);
  }, [message]);
  return html`<div class="messages" role="status" aria-live="polite">
    ${
      message === undefined
        ? ''
        : html`<div class="message ${message.level}">
          <span>${message.text}</span>
          <button class="plain" aria-label="Close this message" onClick=${() => setMessage(undefined)}>×</button>
        </div>`
    }
  </div>`;
}
