/** A collector of traces: takes OTLP by HTTP in JSON, as any backend for OpenTelemetry does. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { vi } from 'vitest';

/** A span as it was sent. */
export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for the first one of a trace. */
  readonly parentSpanId: string;
  readonly name: string;
  /** 1 internal, 2 server, 3 client, 4 producer, 5 consumer. */
  readonly kind: number;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** `code` 2 is an error. */
  readonly status: { readonly code: number; readonly message?: string };
  readonly events: readonly string[];
}

/** A running collector. */
export interface Collector {
  readonly url: string;
  readonly spans: readonly Span[];
  /** The resource that the last spans came from. */
  readonly resource: Readonly<Record<string, unknown>>;
  /** Headers of the last request. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** All bodies as they came. */
  readonly payload: string;
  close(): Promise<void>;
}

type Value = { readonly key: string; readonly value: Readonly<Record<string, unknown>> };
interface SentSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly attributes?: readonly Value[];
  readonly status?: { readonly code?: number; readonly message?: string };
  readonly events?: readonly { readonly name: string }[];
}
interface Sent {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Value[] };
    readonly scopeSpans: readonly { readonly spans: readonly SentSpan[] }[];
  }[];
}

/** Starts a collector, and names it in the environment, from which the SDK reads where to send to. */
export async function startCollector(): Promise<Collector> {
  const spans: Span[] = [];
  let payload = '';
  let resource = {};
  let headers = {};
  const server = createServer(async (request, response) => {
    const body = await text(request);
    payload += body;
    headers = request.headers;
    for (const part of (JSON.parse(body) as Sent).resourceSpans) {
      resource = record(part.resource.attributes);
      spans.push(...part.scopeSpans.flatMap((scope) => scope.spans.map(readSpan)));
    }
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    spans,
    get payload() {
      return payload;
    },
    get resource() {
      return resource;
    },
    get headers() {
      return headers;
    },
    async close() {
      vi.unstubAllEnvs();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function readSpan(sent: SentSpan): Span {
  const { traceId, spanId, parentSpanId = '', name, kind, attributes = [], status, events = [] } = sent;
  return {
    traceId,
    spanId,
    parentSpanId,
    name,
    kind,
    attributes: record(attributes),
    status: { code: 0, ...status },
    events: events.map((event) => event.name),
  };
}

function record(values: readonly Value[]): Record<string, unknown> {
  return Object.fromEntries(values.map(({ key, value }) => [key, Object.values(value)[0]]));
}
