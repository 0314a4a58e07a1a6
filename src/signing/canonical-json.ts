/**
 * The JSON Canonicalization Scheme of RFC 8785: the one text of a JSON value that signatures are made over, so that they
 * can be checked whatever wrote the document.
 *
 * ECMAScript's own `JSON.stringify` writes strings and numbers as the RFC demands (sections 3.2.2.2 and 3.2.2.3); what
 * is left is the order of members, and refusing what is no I-JSON (RFC 7493).
 */

/** A value that has no canonical form, as `message` says. */
export class NotCanonical extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'NotCanonical';
  }
}

/**
 * The canonical form of what `JSON.parse` returned.
 *
 * @throws NotCanonical for numbers that are not finite, strings with lone surrogates, and what JSON can't hold.
 * @see https://www.rfc-editor.org/rfc/rfc8785
 * @example
 * canonicalJson({ b: 1.0, a: 'x' }); // '{"a":"x","b":1}'
 */
export function canonicalJson(value: unknown): string {
  switch (typeof value) {
    case 'boolean':
      return String(value);
    case 'string':
      return text(value);
    case 'number':
      if (!Number.isFinite(value))
        throw new NotCanonical('a number that is not finite has no canonical form');
      return JSON.stringify(value);
    case 'object':
      if (value === null) return 'null';
      if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
      return `{${members(value)}}`;
    default:
      throw new NotCanonical(`JSON holds no ${typeof value}`);
  }
}

/** Members in the order of their names' UTF-16 code units, which is how JavaScript compares strings. */
function members(value: object): string {
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${text(name)}:${canonicalJson(member)}`)
    .join(',');
}

function text(value: string): string {
  if (!value.isWellFormed()) throw new NotCanonical('a string with a lone surrogate has no canonical form');
  return JSON.stringify(value);
}
