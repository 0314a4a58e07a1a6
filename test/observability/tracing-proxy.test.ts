import { expect, test, vi } from 'vitest';
import { startTracing } from '../../src/observability/tracing/start.ts';
import { createLogger } from '../../src/util/log.ts';
import { startProxy } from '../support/http-proxy.ts';
import { startCollector } from '../support/trace-collector.ts';

test('traces reach a collector that only the proxy can resolve', async () => {
  const collector = await startCollector();
  const port = Number(new URL(collector.url).port);
  const proxy = await startProxy({ routes: { 'collector.proxied.test:80': port } });
  const endpoint = 'http://collector.proxied.test';
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', endpoint);
  try {
    const tracing = startTracing(
      {
        endpoint,
        protocol: 'http/json',
        sampler: 'always_on',
        samplerRatio: 1,
        proxy: { http: proxy.url },
      },
      createLogger('silent'),
    );
    tracing.requests.start({ method: 'GET', route: '/v1/stats', headers: {} }).end(200, undefined);
    await tracing.close();
    expect(collector.spans).toHaveLength(1);
    expect(proxy.requests).toEqual(['POST http://collector.proxied.test/v1/traces']);
  } finally {
    await proxy.close();
    await collector.close();
  }
});
