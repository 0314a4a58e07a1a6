import type { z } from 'zod';
import type { BackfillOperations } from '../operations/backfills.ts';
import { BackfillList, BackfillView, Nothing, ScheduleList, ScheduleView } from './backfill-schemas.ts';

/** A request to another process's API. */
export interface RemoteCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
}

/** Makes a request; `undefined` for a problem of the code `NOT_FOUND`, all others are thrown. */
export type CallRemote = <T>(call: RemoteCall, schema: z.ZodType<T>) => Promise<T | undefined>;

/** Backfills on the queue of another process, through its HTTP API. */
export function createRemoteBackfills(call: CallRemote): BackfillOperations {
  const get = (id: string) =>
    call({ method: 'GET', path: `/v1/backfills/${encodeURIComponent(id)}` }, BackfillView);
  const must = <T>(answer: T | undefined): T => {
    if (answer === undefined)
      throw new Error('the API of the process that holds the queue knows no backfills');
    return answer;
  };
  return {
    start: async (order) =>
      must(await call({ method: 'POST', path: '/v1/backfills', body: order }, BackfillView)),
    view: get,
    list: async () => must(await call({ method: 'GET', path: '/v1/backfills' }, BackfillList)).backfills,
    sessions: async (id, limit) => ((await get(id))?.missingSessions ?? []).slice(0, limit),
    async schedules() {
      const { schedules } = must(await call({ method: 'GET', path: '/v1/schedules' }, ScheduleList));
      return schedules.map(({ name, cron, lookbackMs, nextRunAt }) => ({
        name,
        cron,
        lookbackMs,
        nextRunAt: nextRunAt === undefined ? undefined : Date.parse(nextRunAt),
      }));
    },
    async setSchedule({ name, cron, lookbackMs }) {
      const body = { cron, lookback: `${lookbackMs}ms` };
      await call({ method: 'PUT', path: `/v1/schedules/${encodeURIComponent(name)}`, body }, ScheduleView);
    },
    async removeSchedule(name) {
      const path = `/v1/schedules/${encodeURIComponent(name)}`;
      return (
        (await call(
          { method: 'DELETE', path },
          Nothing.transform(() => true),
        )) ?? false
      );
    },
  };
}
