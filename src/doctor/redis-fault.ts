import type { RedisTarget } from '../jobs/redis.ts';
import type { Fault } from './check.ts';

interface Meaning extends Fault {
  /** What ioredis, Node or the server say: a code, a space and the text. */
  readonly pattern: RegExp;
}

const START = 'start the server, or correct host and port in QUEUE_URL';
const NETWORK = 'look at the network between here and there (firewall, security group), and at QUEUE_URL';

/** In this order; the server's own words come first. */
const MEANINGS: readonly Meaning[] = [
  {
    pattern: /NOAUTH|WRONGPASS|invalid password|AUTH <?password|without any password/i,
    message: 'the server refuses the password, or wants one',
    mend: 'correct the user and the password in QUEUE_URL; special characters in them are percent-encoded',
  },
  {
    pattern: /NOPERM/,
    message: 'the user may not do what a queue needs',
    mend: "give the user all commands and all keys of the queue's prefix: ACL SETUSER name +@all -@dangerous +info ~bull:* (or ~PREFIX:*)",
  },
  {
    pattern: /DB index is out of range|invalid DB index/i,
    message: 'the server has no such database',
    mend: 'correct the number behind the host in QUEUE_URL, or raise databases in redis.conf',
  },
  {
    pattern: /running in protected mode/,
    message: 'the server is in protected mode and only talks to its own machine',
    mend: 'give the server a password (requirepass), and write it into QUEUE_URL',
  },
  {
    pattern: /cluster support disabled/,
    message: 'the server is no cluster',
    mend: 'take ?cluster=true out of QUEUE_URL',
  },
  {
    pattern: /MOVED|CROSSSLOT/,
    message: 'the server is part of a cluster',
    mend: 'add ?cluster=true to QUEUE_URL',
  },
  { pattern: /CLUSTERDOWN/, message: 'the cluster is down', mend: 'mend the cluster (CLUSTER INFO)' },
  {
    pattern: /READONLY/,
    message: 'it is a replica, which takes no writes',
    mend: 'name the primary in QUEUE_URL, or use redis+sentinel://',
  },
  {
    pattern: /OOM /,
    message: 'its memory is full',
    mend: 'raise maxmemory, or remove what else lies on this server',
  },
  {
    pattern: /MISCONF/,
    message: 'it can not write to its disk, and takes nothing more',
    mend: "look at the server's log and at the space on its disk",
  },
  { pattern: /LOADING/, message: 'it is just starting', mend: 'wait until it has loaded its data' },
  {
    pattern: /max number of clients/,
    message: 'it has no connection left',
    mend: 'raise maxclients, or close what else is connected',
  },
  {
    pattern: /CERT|SELF_SIGNED|ISSUER|UNABLE_TO_VERIFY/,
    message: 'its certificate is not trusted',
    mend: 'name its authority in NODE_EXTRA_CA_CERTS, and the host in QUEUE_URL as the certificate does',
  },
  {
    pattern: /ERR_SSL|EPROTO|wrong version number/,
    message: 'it does not speak TLS there',
    mend: 'write redis:// instead of rediss://, or the port of its TLS',
  },
  {
    pattern: /Unknown RESP type|Protocol error/i,
    message: 'what answers there is no Redis',
    mend: 'correct host and port in QUEUE_URL',
  },
  { pattern: /ECONNREFUSED/, message: 'nobody listens there', mend: START },
  { pattern: /ENOTFOUND|EAI_AGAIN/, message: 'there is no such host name', mend: START },
  { pattern: /EHOSTUNREACH|ENETUNREACH/, message: 'no way leads there', mend: NETWORK },
];

/**
 * What an error of the connection or of a command means. The error itself is named in brackets; neither ioredis nor
 * Redis put passwords into theirs.
 */
export function redisFault(error: Error, target: RedisTarget): Fault {
  const code = 'code' in error && typeof error.code === 'string' ? `${error.code} ` : '';
  const said = `${code}${error.message}`;
  // A host with several addresses that all refuse makes an error without words.
  const words = firstLine(error.message || code.trim() || error.name);
  const meaning = MEANINGS.find(({ pattern }) => pattern.test(said));
  if (meaning) return { message: `${meaning.message} (${words})`, mend: meaning.mend };
  if (target.kind === 'sentinel' && /sentinel/i.test(said)) {
    const mend = `start the sentinels, or correct their hosts and the name ${target.name} in QUEUE_URL`;
    return { message: words, mend };
  }
  const isTls = target.kind === 'redis' && new URL(target.url).protocol === 'rediss:';
  const tls = isTls
    ? 'if the server speaks no TLS, write redis://'
    : 'if the server wants TLS, write rediss://';
  return { message: `no answer (${words})`, mend: `${NETWORK}; ${tls}` };
}

/** Some of the server's answers are essays. */
function firstLine(text: string): string {
  const line = text.split(/[\r\n]/, 1)[0] ?? '';
  return line.length <= 120 ? line : `${line.slice(0, 119)}…`;
}
