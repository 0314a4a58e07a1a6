/**
 * HTTP proxies for everything that goes out: which requests go through one, and the connections that do. All parts of
 * the program decide by {@link proxyFor}, as each library reads `NO_PROXY` in another way.
 */

import { Agent as HttpAgent, type AgentOptions as HttpAgentOptions } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { BlockList, isIP, isIPv6, type LookupFunction } from 'node:net';
import { Agent, type buildConnector, type Dispatcher, Pool, ProxyAgent } from 'undici';

/** The proxies, as URLs (`http://user:password@proxy.example:3128`), and what goes past them. */
export interface ProxySettings {
  /** For plain http. */
  readonly http?: string | undefined;
  /** For https, through a tunnel (`CONNECT`). */
  readonly https?: string | undefined;
  /** Hosts that are reached directly: a list as in `NO_PROXY`, see {@link proxyFor}. */
  readonly noProxy?: string | undefined;
}

/**
 * The proxy that a request goes through, or `undefined` where it goes directly.
 *
 * `noProxy` is a list, separated by commas or spaces, of names (which include their subdomains, with or without a dot
 * before them), addresses and networks (`10.0.0.0/8`), each optionally with a port, or `*` for everything. Nothing is
 * resolved for it: a name is in no network. So reads it curl, which knows no ports there.
 * https://everything.curl.dev/usingcurl/proxies/env.html
 *
 * @example
 * proxyFor('https://s3.amazonaws.com', { https: 'http://proxy:3128', noProxy: 'internal.example' });
 */
export function proxyFor(url: string | URL, proxy: ProxySettings | undefined): string | undefined {
  if (proxy === undefined) return undefined;
  const { protocol, hostname, port } = new URL(url);
  const isSecure = protocol === 'https:';
  const chosen = isSecure ? proxy.https : proxy.http;
  if (chosen === undefined) return undefined;
  const host = bare(hostname);
  const entries = (proxy.noProxy ?? '').split(/[\s,]+/).filter((entry) => entry !== '');
  const isExempt = entries.some((entry) => matches(entry, host, Number(port) || (isSecure ? 443 : 80)));
  return isExempt ? undefined : chosen;
}

function matches(entry: string, host: string, port: number): boolean {
  const [, bracketed, plain, entryPort] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? [];
  if (entryPort !== undefined && Number(entryPort) !== port) return false;
  // What has more colons than one is an IPv6 address or network without brackets.
  const name = bare(bracketed ?? plain ?? entry);
  if (name === '*') return true;
  const [network = '', length] = name.split('/');
  if (isIP(host) !== 0) return isInNetwork(host, network, length);
  const suffix = network.replace(/^(\*?\.)/, '');
  return suffix !== '' && (host === suffix || host.endsWith(`.${suffix}`));
}

function isInNetwork(address: string, network: string, length: string | undefined): boolean {
  if (isIP(network) === 0 || isIP(network) !== isIP(address)) return false;
  const family = isIPv6(network) ? 'ipv6' : 'ipv4';
  const bits = length === undefined ? (family === 'ipv6' ? 128 : 32) : Number(length);
  if (!Number.isInteger(bits) || bits < 0 || bits > (family === 'ipv6' ? 128 : 32)) return false;
  const list = new BlockList();
  list.addSubnet(network, bits, family);
  return list.check(address, family);
}

/** Lowercase, without brackets and the dot that may end a name. */
function bare(host: string): string {
  return host
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '')
    .toLowerCase();
}

/** How connections are made: undici's own options, `timeout` in milliseconds. */
type ConnectOptions = Partial<buildConnector.BuildOptions> & {
  /** For direct connections alone: behind a proxy it is the proxy that resolves names. */
  readonly lookup?: LookupFunction;
};

/** Options of {@link createDispatcher}: undici's own, connections being described rather than made. */
export interface DispatcherOptions extends Agent.Options {
  readonly connect?: ConnectOptions;
}

/**
 * Connections for undici's requests, each through the proxy that {@link proxyFor} names, or directly. Requests have to
 * name their `origin`. {@link proxyFaultText} describes a refusal of the proxy.
 *
 * @example
 * const dispatcher = createDispatcher({ connect: { timeout: 10_000 } }, config.proxy);
 * await dispatcher.request({ origin: 'https://platform.kore.ai', path: '/', method: 'GET' });
 */
export function createDispatcher(options: DispatcherOptions, proxy: ProxySettings | undefined): Dispatcher {
  return new Agent({
    ...options,
    factory(origin) {
      const uri = proxyFor(origin, proxy);
      return uri === undefined ? new Pool(origin, options) : createTunnels(uri, options);
    },
  });
}

const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;

function createTunnels(uri: string, options: DispatcherOptions): Dispatcher {
  const { lookup: _, timeout = DEFAULT_CONNECT_TIMEOUT_MS, ...tls }: ConnectOptions = options.connect ?? {};
  return new ProxyAgent({
    ...options,
    uri,
    requestTls: { ...tls, timeout },
    proxyTls: { timeout },
    // A proxy that takes `CONNECT` and never answers it would hold each of them for undici's default of 5 minutes.
    clientFactory: (proxy, how) => new Pool(proxy, { ...how, headersTimeout: timeout }),
  });
}

/** What a proxy's refusal is, where an error of a request is one: `the proxy answered 407`. */
export function proxyFaultText(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = 'code' in error ? error.code : undefined;
  if (code === 'UND_ERR_PRX_CONN' || code === 'UND_ERR_PRX_TLS')
    return 'the connection to the proxy was lost';
  const status = REFUSALS.map((words) => words.exec(error.message)?.[1]).find((found) => found !== undefined);
  if (status === undefined) return code === NODE_REFUSAL ? 'the proxy refused' : undefined;
  const fix = status === '407' ? '; give user and password in its URL' : '';
  return `the proxy answered ${status}${fix}`;
}

/** Node's code of a tunnel that was not opened. */
const NODE_REFUSAL = 'ERR_PROXY_TUNNEL';
/** How undici (of a tunnel, of a forwarded request) and Node say it; undici's codes mean other things as well. */
const REFUSALS = [
  /^Proxy response \((\d{3})\)/,
  /^Proxy Authentication Required \((407)\)$/,
  /^Failed to establish tunnel to .* HTTP\/1\.\d (\d{3})/,
];

/**
 * Whether this Node's `http` and `https` know proxies: from 22.21 and 24.5 on. An older one would ignore them and
 * connect directly.
 */
const HAS_PROXY_AGENTS = process.allowedNodeEnvironmentFlags.has('--use-env-proxy');

/**
 * Agents of Node's `http` and `https` through a proxy: https through a tunnel, http as it is. A refused tunnel fails
 * the request with an error of the code `ERR_PROXY_TUNNEL`.
 *
 * The caller decides by {@link proxyFor} whether a request goes through it.
 */
export function createProxyAgents(
  proxy: string,
  options: HttpAgentOptions,
): { readonly httpAgent: HttpAgent; readonly httpsAgent: HttpsAgent } {
  if (!HAS_PROXY_AGENTS) throw new Error('HTTP proxies need Node 22.21, 24.5 or newer');
  const proxyEnv = { http_proxy: proxy, https_proxy: proxy, no_proxy: '' };
  return {
    httpAgent: new HttpAgent({ ...options, proxyEnv }),
    httpsAgent: new HttpsAgent({ ...options, proxyEnv }),
  };
}
