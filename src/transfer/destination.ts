import { isIP } from 'node:net';
import type { MediaConfig } from '../config/config.ts';
import { ArchiverError } from '../errors.ts';
import { isPublicAddress, privateAddressError } from './address.ts';

/** Where one request goes. */
export interface Destination {
  /** Scheme, host and port, canonical: literal addresses in whatever spelling have become plain ones. */
  readonly origin: string;
  /** Host with its port, for messages and manifests. */
  readonly host: string;
  /** Path and query exactly as received: they are signed. */
  readonly target: string;
  /** Path exactly as received, without the query: fit for manifests. */
  readonly path: string;
}

/** Scheme, authority, path, query. The fragment is never sent. */
const URL_PARTS = /^(https?):\/\/([^/?#]+)([^?#]*)(\?[^#]*)?/i;

/** What would make different parsers see different hosts: user names, backslashes, spaces, controls. */
const AMBIGUOUS_AUTHORITY = /[@\\\s\p{Cc}]/u;

/**
 * Takes a recording's URL (or a redirect's) apart and checks it against the policy: https (http only where
 * private media is allowed), a host of `hosts` or a subdomain of one, no user name, and no literal address
 * outside the public internet. Names are checked for where they lead when the connection is made.
 *
 * Only the authority is parsed and made canonical; path and query stay byte for byte as they came. Characters
 * that no HTTP request line can carry (spaces, non-ASCII letters) are percent-encoded, as every browser does.
 *
 * @throws ArchiverError `RECORDING_HOST_NOT_ALLOWED`, naming at most the host.
 */
export function parseDestination(url: string, policy: MediaConfig): Destination {
  const parts = URL_PARTS.exec(url);
  const [, scheme = '', authority = '', path = '', query = ''] = parts ?? [];
  if (parts === null || AMBIGUOUS_AUTHORITY.test(authority) || /\p{Cc}/u.test(path + query)) {
    throw notAllowed("the recording's URL is not a plain https address");
  }
  const base = `${scheme}://${authority}/`;
  if (!URL.canParse(base)) throw notAllowed("the recording's URL names no valid host");
  const parsed = new URL(base);
  // The dot of a fully qualified name is no part of what certificates name.
  parsed.hostname = parsed.hostname.replace(/\.$/, '');
  const { protocol, origin, host, hostname } = parsed;
  if (protocol !== 'https:' && !policy.allowPrivate) {
    throw notAllowed(`the recording's URL at ${host} does not use https`);
  }
  const literal = hostname.replace(/^\[|\]$/g, '');
  if (isIP(literal) !== 0 && !policy.allowPrivate && !isPublicAddress(literal)) {
    throw privateAddressError(literal);
  }
  if (!isListed(hostname, policy.hosts)) {
    throw notAllowed(
      `the recording's host ${host} is not one of KORE_MEDIA_HOSTS; add it there if it is yours`,
    );
  }
  const sentPath = sendable(path === '' ? '/' : path);
  return { origin, host, target: sentPath + sendable(query), path: sentPath };
}

/** Whether a canonical host name is listed or lies below a listed one. Literal addresses have no subdomains. */
function isListed(hostname: string, hosts: readonly string[]): boolean {
  const literal = hostname.replace(/^\[|\]$/g, '');
  if (isIP(literal) !== 0) return hosts.includes(literal) || hosts.includes(hostname);
  return hosts.some((host) => hostname === host || hostname.endsWith(`.${host}`));
}

function sendable(part: string): string {
  return part.replace(/[^\x21-\x7e]+/g, (characters) => encodeURIComponent(characters.toWellFormed()));
}

function notAllowed(message: string): ArchiverError {
  return new ArchiverError('RECORDING_HOST_NOT_ALLOWED', message);
}
