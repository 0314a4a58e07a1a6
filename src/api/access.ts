import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { ApiError } from './problem.ts';

/** Who may use the API. */
export interface Access {
  /** `API_TOKEN`; without any, whoever reaches the API over loopback may use it. */
  readonly tokens: readonly string[];
  /** The token that this process's own commands use: see `owner.json`. */
  readonly loopbackToken?: string | undefined;
}

/**
 * A function that lets a request pass or throws: 401 for missing or wrong credentials.
 *
 * Without tokens the API is open to programs on this machine, but not to web pages in its browser: those reach
 * loopback as well, by a name of theirs that resolves to it (DNS rebinding; then the `Host` is that name) or by
 * a plain cross-site request (then there is an `Origin`). Both get 403. A bearer token that is presented has to
 * be right even then, so that nobody talks to another archiver than the one meant.
 */
export function createGuard({ tokens, loopbackToken }: Access): (headers: IncomingHttpHeaders) => void {
  const accepted = [...tokens, ...(loopbackToken === undefined ? [] : [loopbackToken])].map(digest);
  const isOpen = tokens.length === 0;
  return (headers) => {
    const presented = bearerToken(headers.authorization);
    if (presented !== undefined) {
      if (isAccepted(presented, accepted)) return;
      throw new ApiError(401, 'UNAUTHORIZED', 'the bearer token is not one of this API');
    }
    if (!isOpen)
      throw new ApiError(401, 'UNAUTHORIZED', 'send "Authorization: Bearer" with one of API_TOKEN');
    if (!isLoopbackHost(headers.host) || !isLoopbackOrigin(headers.origin)) {
      throw new ApiError(
        403,
        'FORBIDDEN',
        'without API_TOKEN this API answers only to programs on the same machine, by the name localhost or its address',
      );
    }
  };
}

function bearerToken(authorization: string | undefined): string | undefined {
  return /^bearer +(.*?) *$/i.exec(authorization ?? '')?.[1];
}

/** Takes the same time whichever token it is, and whether it is one at all. */
function isAccepted(presented: string, accepted: readonly Buffer[]): boolean {
  const given = digest(presented);
  let isFound = false;
  for (const token of accepted) isFound = timingSafeEqual(given, token) || isFound;
  return isFound;
}

/** Makes all tokens equally long, as comparing in constant time needs. */
function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

function isLoopbackHost(host: string | undefined): boolean {
  const name = host?.replace(/:\d*$/, '').toLowerCase();
  return name !== undefined && isLoopbackName(name);
}

/** Programs send no `Origin`; a page that this machine itself serves may use the API. */
function isLoopbackOrigin(origin: string | undefined): boolean {
  if (origin === undefined) return true;
  return URL.canParse(origin) && isLoopbackName(new URL(origin).hostname);
}

function isLoopbackName(name: string): boolean {
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name);
}
