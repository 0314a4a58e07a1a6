import { afterEach, expect, it, vi } from 'vitest';
import type { QueueActivity } from '../../src/domain/requests.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { failureReason } from '../../src/jobs/session-job.ts';
import type { SessionQueue } from '../../src/jobs/session-queue.ts';
import { describeOnEachQueue, useSessionQueue } from '../support/queues.ts';
import { ARCHIVED, workOff } from '../support/work-off.ts';

const BOT = 'st-stats';
const MINUTE_MS = 60_000;
const FAIL = { kind: 'fail', reason: failureReason('RECORDING_EMPTY', 'no bytes') } as const;

describeOnEachQueue('what the queue has been doing', (kind) => {
  let backend: Backend;
  let queue: SessionQueue;
  let name: string;

  useSessionQueue(kind, (opened) => {
    ({ backend, name, queue } = opened);
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const enqueue = (...sessionIds: string[]) =>
    queue.enqueue(sessionIds.map((sessionId) => ({ sessionId, botId: BOT })));

  it('the history of a queue is empty at first', async () => {
    const { throughput, failuresByCode } = await queue.activity();

    expect(failuresByCode).toEqual({});
    expect(throughput).toHaveLength(60);
    expect(endings(throughput)).toEqual([]);
    const minutes = throughput.map(({ minute }) => Date.parse(minute));
    expect(minutes.every((minute) => minute % MINUTE_MS === 0)).toBe(true);
    expect(minutes.every((minute, index) => minute - (minutes[0] ?? 0) === index * MINUTE_MS)).toBe(true);
  });

  it('the history of a queue counts ended sessions by the minute, for an hour', async () => {
    // Only the date is set: what waits for the queue's server goes on waiting in real time.
    vi.useFakeTimers({ toFake: ['Date'] });
    const start = Date.parse('2030-05-06T12:00:30.000Z');
    const workAt = async (minute: number, good: number, bad: number) => {
      vi.setSystemTime(start + minute * MINUTE_MS);
      const ids = Array.from({ length: good + bad }, (_, index) => `at-${minute}-${index}`);
      await enqueue(...ids);
      await workOff(backend, name, ids.length, ({ data }) => {
        return Number(data.sessionId.split('-')[2]) < good ? ARCHIVED : FAIL;
      });
    };
    const now = async () => endings((await queue.activity()).throughput);

    await workAt(0, 2, 1);
    expect(await now()).toEqual(['12:00 2 1']);
    await workAt(1, 1, 0);
    await workAt(4, 0, 2);
    await workAt(5, 3, 0);
    expect(await now()).toEqual(['12:00 2 1', '12:01 1 0', '12:04 0 2', '12:05 3 0']);

    vi.setSystemTime(start + 61 * MINUTE_MS);
    expect(await now()).toEqual(['12:04 0 2', '12:05 3 0']);
    vi.setSystemTime(start + 65 * MINUTE_MS);
    expect(await now()).toEqual([]);
    await workAt(66, 1, 0);
    expect(await now()).toEqual(['13:06 1 0']);
  });

  it('the history of a queue counts failures by their codes', async () => {
    await enqueue('a', 'b', 'c', 'd', 'e');
    const reasons: Record<string, string> = {
      a: failureReason('RECORDING_EMPTY', 'no bytes: none at all'),
      b: failureReason('RECORDING_EMPTY', 'no bytes'),
      c: failureReason('SESSION_NOT_FOUND', 'gone'),
      d: 'job stalled more than allowable limit',
    };
    await workOff(backend, name, 5, ({ data: { sessionId } }) => {
      const reason = reasons[sessionId];
      return reason === undefined ? ARCHIVED : { kind: 'fail', reason };
    });

    expect((await queue.activity()).failuresByCode).toEqual({
      RECORDING_EMPTY: 2,
      SESSION_NOT_FOUND: 1,
      INTERNAL: 1,
    });

    // Counted anew for whoever asks after them again.
    expect(await queue.retry({ sessionId: 'a', botId: BOT })).toBe('requeued');
    const rest = { RECORDING_EMPTY: 1, SESSION_NOT_FOUND: 1, INTERNAL: 1 };
    await expect.poll(async () => (await queue.activity()).failuresByCode, { timeout: 4_000 }).toEqual(rest);
  });
});

/** The minutes in which any session ended: `12:00 2 1` for two archived and one failed. */
function endings(throughput: QueueActivity['throughput']): string[] {
  return throughput
    .filter(({ archived, failed }) => archived + failed > 0)
    .map(({ minute, archived, failed }) => `${minute.slice(11, 16)} ${archived} ${failed}`);
}
