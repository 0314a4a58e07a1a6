import htm from 'htm';
import { h } from 'preact';

/**
 * Markup as a tagged template. What is put into it is text or an attribute's value, never markup.
 *
 * @type {(strings: TemplateStringsArray, ...values: unknown[]) => import('preact').VNode}
 */
export const html = /** @type {never} */ (htm.bind(/** @type {never} */ (h)));
