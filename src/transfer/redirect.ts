/** Scheme and authority, path; query and fragment are of no use to what is resolved against it. */
const ABSOLUTE = /^([a-z][a-z0-9+.-]*:)(\/\/[^/?#]*)([^?#]*)/i;

/** Leading steps of a relative path: `./`, `../`, and either as the whole of it. */
const STEP = /^(\.{1,2})(?:\/|(?=[?#]|$))/;

/**
 * Where a redirect leads. Redirects are signed as often as not, so only what is missing is added: path and query stay
 * byte for byte as they came, where `new URL` would rewrite them.
 *
 * @param location the header, one character a byte.
 * @param from the absolute address that answered with it.
 */
export function resolveRedirect(location: string, from: string): string {
  const target = encodeRawBytes(location);
  const [, scheme = '', authority = '', path = ''] = ABSOLUTE.exec(from) ?? [];
  if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return target;
  if (target.startsWith('//')) return scheme + target;
  const origin = scheme + authority;
  if (target.startsWith('/')) return origin + target;
  if (/^([?#]|$)/.test(target)) return origin + path + target;
  return origin + stepInto(path, target);
}

/** A relative path, from the directory that `path` is in. */
function stepInto(path: string, relative: string): string {
  const directories = path.split('/').slice(1, -1);
  let rest = relative;
  for (let step = STEP.exec(rest); step !== null; step = STEP.exec(rest)) {
    if (step[1] === '..') directories.pop();
    rest = rest.slice(step[0].length);
  }
  return ['', ...directories, rest].join('/');
}

/** Bytes that no header should hold, in whatever encoding they are meant: sent back as the same bytes. */
function encodeRawBytes(location: string): string {
  return location.replace(/[\x80-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`);
}
