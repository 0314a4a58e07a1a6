/** Text from outside, made fit to be shown: in messages, logs, answers and on terminals. */

import { redact } from './redact.ts';

/**
 * Everything that isn't a letter, mark, number, punctuation or symbol: controls, escapes, bidi overrides, all spaces.
 */
const UNPRINTABLE = /[^\p{L}\p{M}\p{N}\p{P}\p{S}]+/gu;
/** How much is read beyond the shown part: removed characters make room. */
const EXTRA_CHARACTERS = 4_000;

/**
 * Text from outside on one line, printable, without secrets, and short. It is cut before it is read, so that the
 * work does not grow with what was sent.
 *
 * @param maxCharacters longer texts are cut and end in `…`.
 * @example
 * printable('No\u001b[2J such\nsession'); // 'No [2J such session'
 */
export function printable(text: string, maxCharacters = 200): string {
  const looked = text.slice(0, maxCharacters + EXTRA_CHARACTERS);
  // Redacted before it is cut to its length: half a token would not be recognised as one.
  const clean = redact(looked.replace(UNPRINTABLE, ' ').trim());
  const characters = Array.from(clean);
  const isWhole = characters.length <= maxCharacters && looked.length === text.length;
  return isWhole ? clean : `${characters.slice(0, maxCharacters - 1).join('')}…`;
}

/** Controls, escapes, and what is not seen or reorders what is seen. */
export const UNSAFE_TO_SHOW = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]+/gu;

/**
 * What a terminal could obey or show in another order: C1 controls, DEL, bidi marks and overrides, line separators. C0
 * controls are not among them: in JSON they are escaped already, and between its lines they are wanted.
 */
const TERMINAL_CONTROLS = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** The same and C0 controls, but for what text of several lines is made of. */
const TEXT_CONTROLS = /[^\P{Cc}\n\t]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;

/** Text of any number of lines as a terminal may get it: whatever it could obey is shown as `�`. */
export function forTerminal(text: string): string {
  return text.replace(TEXT_CONTROLS, '\ufffd');
}

/** A JSON text of the same meaning that does nothing to a terminal. */
export function escapeControls(json: string): string {
  return json.replace(
    TERMINAL_CONTROLS,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
