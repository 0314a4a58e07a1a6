import { redact } from '../redact.ts';

/** How much of a text is looked at: enough for any error message, too little to cost anything. */
const MAX_INPUT_CHARACTERS = 4000;
const MAX_CHARACTERS = 200;

/** Everything that isn't a letter, mark, number, punctuation or symbol: controls, bidi overrides, all spaces. */
const UNPRINTABLE = /[^\p{L}\p{M}\p{N}\p{P}\p{S}]+/gu;

/**
 * Text from Kore made fit for an error message: on one line, printable, without secrets, and short.
 *
 * @param maxCharacters longer texts are cut and end in `…`.
 */
export function cleanText(text: string, maxCharacters: number = MAX_CHARACTERS): string {
  // Redacted before it is cut: half a token would not be recognised as one.
  const clean = redact(text.slice(0, MAX_INPUT_CHARACTERS).replace(UNPRINTABLE, ' ').trim());
  const characters = Array.from(clean);
  return characters.length <= maxCharacters ? clean : `${characters.slice(0, maxCharacters - 1).join('')}…`;
}
