import { z } from 'zod';
import type { Metrics } from '../metrics/metrics.ts';
import type { ZodServer } from './validation.ts';

/** What the route of metrics works with. */
export interface MetricsOptions {
  /** Without them there is no such route. */
  readonly metrics?: Pick<Metrics, 'contentType' | 'render'> | undefined;
}

/** `GET /metrics`, for Prometheus; open like the health routes, as it tells counts and times alone. */
export function addMetricsRoute(app: ZodServer, { metrics }: MetricsOptions): void {
  if (!metrics) return;
  const schema = {
    summary: "The process's metrics, and those of the queue, for Prometheus",
    tags: ['health'],
    response: { 200: z.string() },
    answers: metrics.contentType,
  };
  app.get('/metrics', { schema }, async (_request, reply) => {
    reply.header('content-type', metrics.contentType);
    return reply.send(await metrics.render());
  });
}
