/** Bytes from `start` (inclusive) to `end` (exclusive). */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * What a `Range` header asks for of a file of that size: one range; `whole` where there is none that has to be
 * honoured (several ranges, other units, nonsense); `unsatisfiable` where the answer is 416.
 * https://www.rfc-editor.org/rfc/rfc9110#section-14.2
 */
export function parseRange(header: string | undefined, bytes: number): ByteRange | 'whole' | 'unsatisfiable' {
  const match = /^bytes=(?:(\d+)-(\d*)|-(\d+))$/.exec(header ?? '');
  if (match === null) return 'whole';
  const [, first, last, suffix] = match;
  if (first === undefined) {
    const count = Math.min(Number(suffix), bytes);
    return count === 0 ? 'unsatisfiable' : { start: bytes - count, end: bytes };
  }
  const start = Number(first);
  const end = last ? Math.min(Number(last) + 1, bytes) : bytes;
  if (last && Number(last) < start) return 'whole';
  return start >= bytes ? 'unsatisfiable' : { start, end };
}

/**
 * Whether a range may be answered under that `If-Range`: the very ETag, if it is a strong one, or the very date.
 * https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
 */
export function ifRangeHolds(
  header: string | undefined,
  validators: { readonly etag: string | undefined; readonly lastModified: string | undefined },
): boolean {
  if (header === undefined) return true;
  if (header.startsWith('W/')) return false;
  return header === validators.etag || header === validators.lastModified;
}
