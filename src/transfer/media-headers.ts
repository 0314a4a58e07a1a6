import type { IncomingHttpHeaders } from 'node:http';
import { boundedNumber } from '../util/numbers.ts';

/** Which bytes of the whole a 206 holds; `total` where it tells. */
export interface ContentRange {
  readonly from: number;
  /** The last byte. */
  readonly to: number;
  readonly total: number | undefined;
}

/** The header's value, the first one where it comes several times. */
export function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** The length of the body that comes with an answer, where the answer tells. */
export function contentLengthOf(status: number, headers: IncomingHttpHeaders): number | undefined {
  return status === 204 ? 0 : boundedNumber(headerOf(headers, 'content-length'));
}

/** Weak ETags may stay the same while bytes change, so they prove nothing to a range. */
export function validatorOf(headers: IncomingHttpHeaders): string | undefined {
  const etag = headerOf(headers, 'etag');
  return etag?.startsWith('"') ? etag : headerOf(headers, 'last-modified');
}

/** What `Content-Range` says; `undefined` where it says nothing that makes sense. */
export function rangeOf(headers: IncomingHttpHeaders): ContentRange | undefined {
  const text = headerOf(headers, 'content-range')?.trim() ?? '';
  const parts = /^bytes (\d+)-(\d+)\/(\d+|\*)$/i.exec(text);
  const from = boundedNumber(parts?.[1]);
  const to = boundedNumber(parts?.[2]);
  const total = boundedNumber(parts?.[3]);
  if (from === undefined || to === undefined || to < from) return undefined;
  if (total === undefined ? parts?.[3] !== '*' : to >= total) return undefined;
  return { from, to, total };
}
