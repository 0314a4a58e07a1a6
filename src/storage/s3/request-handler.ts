/** How requests to S3 get there: bounded in time, and through a proxy where one is configured. */

import type { Agent as HttpAgent } from 'node:http';
import type { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import type { HttpHandler, HttpRequest } from '@smithy/core/protocols';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { createProxyAgents, type ProxySettings, proxyFor } from '../../util/http-proxy.ts';
import { boundTime } from './slow-answers.ts';

const CONNECTION_TIMEOUT_MS = 5_000;
/** A connection on which nothing moves. */
const SOCKET_TIMEOUT_MS = 30_000;
/** A whole request up to the answer's headers: a part of 5 MiB at half a megabit a second. */
const REQUEST_TIMEOUT_MS = 90_000;
/** More than any worker has uploads at once: waiting for a socket counts as time spent on connecting. */
const MAX_SOCKETS = 512;

/**
 * A handler for the SDK's requests whose every wait is bounded; the SDK's own defaults wait for ever.
 *
 * It decides about the proxy with each request, as a bucket's host is known only then.
 */
export function createRequestHandler(proxy: ProxySettings | undefined): HttpHandler {
  const options = { keepAlive: true, maxSockets: MAX_SOCKETS };
  const direct = createHandler(options, options);
  const proxied = new Map<string, NodeHttpHandler>();
  const handlerFor = (request: HttpRequest): NodeHttpHandler => {
    if (proxy === undefined) return direct;
    const { protocol, hostname, port } = request;
    const uri = proxyFor(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`, proxy);
    if (uri === undefined) return direct;
    const existing = proxied.get(uri);
    if (existing !== undefined) return existing;
    const { httpAgent, httpsAgent } = createProxyAgents(uri, options);
    const handler = createHandler(httpAgent, httpsAgent);
    proxied.set(uri, handler);
    return handler;
  };
  return {
    metadata: direct.metadata,
    async handle(request, how) {
      const answer = await handlerFor(request).handle(request, how);
      const { body } = answer.response;
      if (body instanceof Readable && !isObject(request, answer.response.statusCode)) boundTime(body);
      return answer;
    },
    destroy() {
      for (const handler of [direct, ...proxied.values()]) handler.destroy();
    },
    updateHttpClientConfig: () => undefined,
    httpHandlerConfigs: () => ({}),
  };
}

/** Whether an answer is an object, which takes as long as it is large: see `steadily`. */
function isObject({ method, query }: HttpRequest, status: number): boolean {
  return method === 'GET' && status < 300 && !('list-type' in query) && !('uploads' in query);
}

type AgentOrOptions<Agent> = Agent | { readonly keepAlive: boolean; readonly maxSockets: number };

function createHandler(
  httpAgent: AgentOrOptions<HttpAgent>,
  httpsAgent: AgentOrOptions<HttpsAgent>,
): NodeHttpHandler {
  return new NodeHttpHandler({
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    socketTimeout: SOCKET_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    throwOnRequestTimeout: true,
    httpAgent,
    httpsAgent,
  });
}
