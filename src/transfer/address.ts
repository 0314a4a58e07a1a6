import type { LookupAddress } from 'node:dns';
import { lookup as systemLookup } from 'node:dns/promises';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { ArchiverError } from '../errors.ts';

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
 * A `lookup` for sockets that refuses names with any address outside the public internet. The addresses
 * checked are the very ones connected to, so a name that resolves to something else the second time gets
 * nowhere. Node calls no `lookup` for literal addresses: `destination.ts` checks those.
 */
export function createGuardedLookup(
  allowPrivate: boolean,
  resolve: Resolve = resolveBySystem,
): LookupFunction {
  return (hostname, options, callback) => {
    const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : (options.family ?? 0);
    resolve(hostname, { family }).then(
      (addresses) => {
        const first = addresses[0];
        if (first === undefined) {
          callback(new Error('the name has no address'), '');
        } else if (!allowPrivate && !addresses.every(({ address }) => isPublicAddress(address))) {
          callback(privateAddressError(hostname), '');
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

/** The refusal of a host that is, or leads to, an address outside the public internet. */
export function privateAddressError(hostname: string): ArchiverError {
  return new ArchiverError(
    'RECORDING_HOST_NOT_ALLOWED',
    `the recording's host ${hostname} is not on the public internet; recordings are only fetched from there ` +
      '(KORE_ALLOW_PRIVATE_MEDIA=true lifts this, for tests)',
  );
}
