import { describe, expect, it } from 'vitest';
import type { HistoryEntry } from '../../src/domain/views.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { failureEvent, type NotedEvent, noteEvent } from '../../src/jobs/session-history.ts';
import { failureReason } from '../../src/jobs/session-job.ts';
import type { SessionQueue } from '../../src/jobs/session-queue.ts';
import { describeOnEachQueue, useSessionQueue } from '../support/queues.ts';
import { ARCHIVED, type Decide, workOff } from '../support/work-off.ts';

const SESSION = { botId: 'st-1', sessionId: 'a' };
const MINUTE_MS = 60_000;
const error = (code: 'KORE_UNAVAILABLE' | 'RECORDING_EMPTY', minute: number) => ({
  code,
  message: `it is ${code}`,
  retryable: true,
  at: new Date(Date.UTC(2030, 0, 1, 12) + minute * MINUTE_MS).toISOString(),
});

describe('events of a history', () => {
  it('waits for the same reason are one event, with their number and first time', () => {
    let events: NotedEvent[] = [];
    for (const [minute, code] of [
      [0, 'KORE_UNAVAILABLE'],
      [1, 'KORE_UNAVAILABLE'],
      [2, 'KORE_UNAVAILABLE'],
      [3, 'RECORDING_EMPTY'],
    ] as const) {
      events = noteEvent(events, failureEvent(error(code, minute), { until: error(code, minute + 1).at }));
    }
    expect(events).toMatchObject([
      {
        code: 'KORE_UNAVAILABLE',
        times: 3,
        since: '2030-01-01T12:00:00.000Z',
        at: '2030-01-01T12:02:00.000Z',
      },
      { code: 'RECORDING_EMPTY', until: '2030-01-01T12:04:00.000Z' },
    ]);
  });

  it('a history holds the newest 50 events, each of limited size', () => {
    let events: NotedEvent[] = [];
    for (let minute = 0; minute < 120; minute += 1) {
      const code = minute % 2 === 0 ? 'KORE_UNAVAILABLE' : 'RECORDING_EMPTY';
      const long = { ...error(code, minute), message: 'x'.repeat(5_000) };
      events = noteEvent(events, failureEvent(long, { until: long.at }));
    }
    expect(events).toHaveLength(50);
    expect(events.at(-1)?.at).toBe(error('RECORDING_EMPTY', 119).at);
    expect(JSON.stringify(events).length).toBeLessThan(20_000);
  });

  it('an event that is noted again after a crash is there once', () => {
    const failed = failureEvent(error('RECORDING_EMPTY', 1), undefined);
    expect(noteEvent(noteEvent([], failed), failed)).toEqual([failed]);
  });
});

describeOnEachQueue('the history of a session', (kind) => {
  let backend: Backend;
  let name: string;
  let queue: SessionQueue;
  useSessionQueue(kind, (opened) => {
    ({ backend, name, queue } = opened);
  });

  it('the history of a session covers the time before it was put back into the queue', async () => {
    const work = (decide: Decide) => workOff(backend, name, 1, decide);
    const currentEvents = async () =>
      ((await queue.view(SESSION))?.history ?? []).map(({ at: _, ...entry }: HistoryEntry) => entry);
    await queue.enqueue([{ ...SESSION, by: 'webhook' }]);
    expect(await currentEvents()).toEqual([{ event: 'enqueued', by: 'webhook' }]);

    await work(async (job) => {
      const { at, ...last } = { ...error('RECORDING_EMPTY', 0), at: new Date().toISOString() };
      const history = noteEvent([], failureEvent({ ...last, at }, { saved: 1, missing: 2 }));
      await job.saveProgress({ error: { ...last, at }, partial: true, history });
      return { kind: 'fail', reason: failureReason('RECORDING_EMPTY', 'no bytes') };
    });
    const failed = [
      { event: 'enqueued', by: 'webhook' },
      { event: 'attempt' },
      {
        event: 'partial',
        code: 'RECORDING_EMPTY',
        message: 'it is RECORDING_EMPTY',
        detail: '1 recording archived, 2 missing',
      },
    ];
    expect(await currentEvents()).toEqual(failed);
    expect((await queue.list({ state: 'partial' })).sessions).toMatchObject([
      { sessionId: 'a', state: 'failed', partial: true },
    ]);

    expect(await queue.retry(SESSION, 'jane')).toBe('requeued');
    await work(() => ({ ...ARCHIVED, result: { ...ARCHIVED.result, revision: 1 } }));
    await queue.noteTranscript(SESSION, 'archived', { revision: 2 });
    await queue.noteTranscript(SESSION, 'archived', { revision: 2 });
    const archived = [
      ...failed,
      { event: 'retried', by: 'jane' },
      { event: 'attempt' },
      ...ARCHIVED.result.recordings.map(({ key, bytes }) => ({
        event: 'transferred',
        detail: `${key} (${bytes} bytes)`,
      })),
      { event: 'archived', detail: 'revision 1' },
      { event: 'rewritten', detail: 'revision 2; transcript archived' },
    ];
    expect(await currentEvents()).toEqual(archived);
    expect(await queue.noteHold(SESSION, 'held', 'ann')).toBe(true);
    expect(await queue.noteHold(SESSION, 'released')).toBe(true);
    archived.push({ event: 'held', by: 'ann' }, { event: 'released' });
    expect(await currentEvents()).toEqual(archived);
    expect(await queue.view(SESSION)).toMatchObject({ state: 'archived', transcript: 'archived' });

    await queue.enqueue([{ ...SESSION, force: true, by: 'joe' }]);
    expect(await currentEvents()).toEqual([
      ...archived,
      { event: 'enqueued', by: 'joe', detail: 'again, by force' },
    ]);
    expect((await queue.list()).sessions.map(({ history }) => history)).toEqual([undefined]);
    const times = ((await queue.view(SESSION))?.history ?? []).map(({ at }) => at);
    expect(times).toEqual([...times].sort());
  });

  it('a failure that an older version recorded by its reason alone is part of the history', async () => {
    await queue.enqueue([SESSION]);
    await workOff(backend, name, 1, () => ({
      kind: 'fail',
      reason: failureReason('SESSION_NOT_FOUND', 'unknown'),
    }));
    expect((await queue.view(SESSION))?.history?.at(-1)).toMatchObject({
      event: 'failed',
      code: 'SESSION_NOT_FOUND',
      message: 'unknown',
    });
  });
});
