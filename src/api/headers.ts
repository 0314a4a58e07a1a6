import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

/** The header that names a request, in both directions and in the log. */
export const REQUEST_ID_HEADER = 'x-request-id';

/** What ids of others look like: printable, short, and nothing that a log or a header could stumble over. */
const REQUEST_ID = /^[A-Za-z0-9._:+=/-]{1,128}$/;

/** The id a request came with, if it is a sane one, otherwise a new one. */
export function requestId(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers[REQUEST_ID_HEADER];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

/**
 * Headers of every answer. What is meant for a browser (the documentation, the dashboard) replaces the policy and
 * the caching by its own.
 */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cache-control': 'no-store',
};
