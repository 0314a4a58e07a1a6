/** The HTTP API on a real queue and a real archive, and requests to it. */

import { request } from 'undici';
import type { Api } from '../../src/api/http-server.ts';
import { type ApiOptions, createApi } from '../../src/api/server.ts';
import type { ApiToken, Config, HttpConfig, KoreConfig } from '../../src/config/config.ts';
import { createMetrics } from '../../src/observability/metrics/metrics.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { VERSION } from '../../src/util/process.ts';
import { createTestQueue, silent } from './queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from './services.ts';

/** Tokens of the API that may operate. */
export function apiTokens(...tokens: string[]): ApiToken[] {
  return tokens.map((token, index) => ({ name: `token-${index + 1}`, role: 'operate', token }));
}

/** A queue, an archive and a stand-in for Kore, on which a test serves the API in as many ways as it likes. */
export interface ApiSetup {
  readonly sandbox: Sandbox;
  readonly runtime: Runtime;
  readonly config: Config;
  readonly kore: KoreConfig;
  /** Serves the API on a free port. @returns its URL. */
  serve(http?: Partial<HttpConfig>, changes?: Partial<ApiOptions>): Promise<string>;
  /** Archives what is queued, from now on. */
  startWorker(): Promise<void>;
  close(): Promise<void>;
}

/** Opens a queue on Redis and an archive in a directory. */
export async function openApiSetup(): Promise<ApiSetup> {
  const [sandbox, queue, directory] = await Promise.all([
    startSandbox(),
    createTestQueue('redis'),
    temporaryDirectory(),
  ]);
  const environment = { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}` };
  const { config, kore } = testConfig(environment, queue.config);
  const runtime = await openRuntime(config, silent);
  const metrics = createMetrics({ stats: () => runtime.operations.stats(), version: VERSION, log: silent });
  // What was opened last is closed first.
  const closers: (() => Promise<unknown>)[] = [
    () => runtime.close(),
    () => queue.remove(),
    () => directory.remove(),
    () => sandbox.close(),
  ];
  return {
    sandbox,
    runtime,
    config,
    kore,
    async serve(http = {}, changes = {}) {
      const api: Api = createApi({
        operations: runtime.operations,
        objects: runtime.objects,
        backfills: runtime.backfills,
        completeness: runtime.completeness,
        custody: runtime.custody,
        events: runtime.events,
        queue: runtime.queue,
        metrics,
        check: (signal) => runtime.check(signal),
        http: { host: '127.0.0.1', port: 0, tokens: [], ...http },
        defaultBotId: sandbox.botId,
        log: silent,
        ...changes,
      });
      closers.unshift(() => api.close());
      return (await api.listen()).url;
    },
    async startWorker() {
      const worker = await runtime.startWorker(kore);
      closers.unshift(() => worker.stop());
      await worker.ready();
    },
    async close() {
      for (const close of closers) await close();
    },
  };
}

/** A request of a test. */
export interface Ask {
  readonly method?: string;
  /** Sent as JSON, with its content type. */
  readonly json?: unknown;
  readonly body?: string | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer, read to its end. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** The body as JSON; an empty object when it is none. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** Sends one request. */
export async function ask(
  url: string,
  path: string,
  { method, json, body, headers }: Ask = {},
): Promise<Answer> {
  const sent = json === undefined ? body : JSON.stringify(json);
  const response = await request(`${url}${path}`, {
    method: (method ?? (sent === undefined ? 'GET' : 'POST')) as 'GET',
    headers: { ...(json !== undefined && { 'content-type': 'application/json' }), ...headers },
    ...(sent !== undefined && { body: sent }),
  });
  const text = await response.body.text();
  return { status: response.statusCode, headers: response.headers, text, body: parse(text) };
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    // Told by its text.
    return {};
  }
}
