import type { LookupAddress } from 'node:dns';
import { lookup as systemLookup } from 'node:dns/promises';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { MediaConfig } from '../config/config.ts';
import { VoicemailError } from '../domain/errors.ts';

/** IPv6's global unicast space; what lies outside is local, reserved, or an IPv4 address in disguise. */
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3');

/** The prefix under which NAT64 networks, IPv6-only clouds among them, reach the IPv4 internet (RFC 6052). */
const NAT64 = ipaddr.IPv6.parseCIDR('64:ff9b::/96');

/**
 * Whether an address belongs to the public internet: globally routable unicast. Everything else (loopback,
 * private, link-local, shared, documentation, multicast, reserved, tunnelled) is not. IPv4 addresses written
 * as IPv4-mapped or NAT64 addresses count as what they lead to.
 *
 * @param address a canonical IPv4 or IPv6 address, as a resolver returns it.
 */
export function isPublicAddress(address: string): boolean {
  if (isIP(address) === 0) return false;
  const parsed = ipaddr.process(address);
  if (parsed instanceof ipaddr.IPv4) return parsed.range() === 'unicast';
  if (parsed.match(NAT64)) return new ipaddr.IPv4(parsed.toByteArray().slice(-4)).range() === 'unicast';
  return parsed.match(GLOBAL_UNICAST) && parsed.range() === 'unicast';
}

/** Turns a host name into all its addresses, like `lookup` of `node:dns/promises` with `all`. */
export type Resolve = (hostname: string, options: { family: number }) => Promise<LookupAddress[]>;

const resolveBySystem: Resolve = (hostname, { family }) => systemLookup(hostname, { all: true, family });

/**
 * A `lookup` for sockets that refuses names with any address outside the public internet, except for the names that
 * the policy lists. The addresses checked are the very ones connected to, so a name that resolves to something else
 * the second time gets nowhere. Node calls no `lookup` for literal addresses: {@link parseDestination} checks those.
 */
export function createGuardedLookup(
  policy: Pick<MediaConfig, 'allowPrivate' | 'privateHosts'>,
  resolve: Resolve = resolveBySystem,
): LookupFunction {
  return (hostname, options, callback) => {
    const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : (options.family ?? 0);
    resolve(hostname, { family }).then(
      (addresses) => {
        const first = addresses[0];
        if (first === undefined) {
          callback(new Error('the name has no address'), '');
        } else if (!addresses.every(({ address }) => mayLeadTo(hostname, address, policy))) {
          callback(privateNameError(hostname), '');
        } else if (options.all === true) {
          callback(null, addresses);
        } else {
          callback(null, first.address, first.family);
        }
      },
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), ''),
    );
  };
}

/** What a name of `KORE_PRIVATE_MEDIA_HOSTS` may lead to; link-local addresses, where metadata is, are not among it. */
const PRIVATE_RANGES: readonly string[] = ['private', 'uniqueLocal', 'carrierGradeNat', 'loopback'];

/** Metadata services inside those ranges, which hand out credentials: of AWS (IPv6) and of Alibaba Cloud. */
const METADATA_ADDRESSES = ['fd00:ec2::254', '100.100.100.200'];

function mayLeadTo(
  hostname: string,
  address: string,
  policy: Pick<MediaConfig, 'allowPrivate' | 'privateHosts'>,
): boolean {
  if (policy.allowPrivate || isPublicAddress(address)) return true;
  if (!policy.privateHosts.includes(hostname) || isIP(address) === 0) return false;
  const parsed = ipaddr.process(address);
  return PRIVATE_RANGES.includes(parsed.range()) && !METADATA_ADDRESSES.includes(parsed.toString());
}

/** The refusal of a literal address outside the public internet: nothing but an attack or a mistake names one. */
function privateAddressError(address: string): VoicemailError {
  return new VoicemailError(
    'RECORDING_HOST_NOT_ALLOWED',
    `the recording's host ${address} is not on the public internet; recordings are only fetched from there`,
    {
      retryable: false,
      host: address,
      hint: 'set KORE_ALLOW_PRIVATE_MEDIA=true to try things out with addresses of this machine or its network',
    },
  );
}

/** The refusal of a name that leads to such an address, which configuration can allow. */
function privateNameError(hostname: string): VoicemailError {
  return new VoicemailError(
    'RECORDING_HOST_NOT_ALLOWED',
    `the recording's host ${hostname} resolves to a private address`,
    {
      retryable: true,
      host: hostname,
      hint: `add ${hostname} to KORE_PRIVATE_MEDIA_HOSTS if it is yours, such as an interface endpoint`,
    },
  );
}

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

/** A name has at most 253 characters, to which percent-encoding and a port may add. */
const MAX_AUTHORITY = 1024;

/** What would make different parsers see different hosts: user names, backslashes, spaces, controls. */
const AMBIGUOUS_AUTHORITY = /[@\\\s\p{Cc}]/u;

/**
 * Takes a recording's URL (or a redirect's) apart and checks it against the policy: https (http only where
 * private media is allowed), a host of `hosts`, a subdomain of one, or one of `privateHosts`, no user name, and no
 * literal address outside the public internet. Names are checked for where they lead when the connection is made.
 *
 * Only the authority is parsed and made canonical; path and query stay byte for byte as they came. Characters
 * that no HTTP request line can carry (spaces, non-ASCII letters) are percent-encoded, as every browser does.
 *
 * @throws VoicemailError `RECORDING_HOST_NOT_ALLOWED`, naming at most the host; retryable where only the lists of
 *   hosts stand against it, since configuration can change those.
 */
export function parseDestination(url: string, policy: MediaConfig): Destination {
  const parts = URL_PARTS.exec(url);
  const [, scheme = '', authority = '', path = '', query = ''] = parts ?? [];
  if (
    parts === null ||
    authority.length > MAX_AUTHORITY ||
    AMBIGUOUS_AUTHORITY.test(authority) ||
    /\p{Cc}/u.test(path + query)
  ) {
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
  if (!isListed(hostname, policy.hosts) && !policy.privateHosts.includes(hostname)) {
    throw new VoicemailError(
      'RECORDING_HOST_NOT_ALLOWED',
      `the recording's host ${host} is not one of KORE_MEDIA_HOSTS`,
      { retryable: true, host, hint: `add ${hostname} to KORE_MEDIA_HOSTS if it is yours` },
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

function notAllowed(message: string): VoicemailError {
  return new VoicemailError('RECORDING_HOST_NOT_ALLOWED', message, { retryable: false });
}
