import { describe, expect, it } from 'vitest';
import type { Throughput } from '../../src/domain/requests.ts';
import { type HealthFacts, healthOf } from '../../src/operations/health.ts';

const NOW = Date.parse('2030-05-06T10:30:20.000Z');

/** The last minutes, the present one last. */
function minutes(...ended: readonly [archived: number, failed: number][]): Throughput[] {
  const quiet = Array.from({ length: 60 - ended.length }, () => [0, 0] as const);
  return [...quiet, ...ended].map(([archived, failed], index) => ({
    minute: new Date(NOW - (59 - index) * 60_000).toISOString(),
    archived,
    failed,
  }));
}

const WORKER = {
  id: 'w',
  host: 'h',
  pid: 1,
  version: '1',
  startedAt: '2030-05-06T10:00:00.000Z',
  seenAt: '2030-05-06T10:30:12.000Z',
  concurrency: 16,
  active: 0,
};
const QUIET: HealthFacts = {
  states: { queued: 0, active: 0, waiting: 0, archived: 0, failed: 0 },
  paused: false,
  transcriptsPending: 0,
  throughput: minutes(),
  failuresByCode: {},
  backlog: { sessions: 0 },
  workers: [WORKER],
  openBreakers: [],
};
const BUSY: HealthFacts = {
  ...QUIET,
  states: { ...QUIET.states, queued: 200, waiting: 14 },
  oldestQueuedAt: '2030-05-06T10:29:50.000Z',
  backlog: { sessions: 214 },
};
const open = (dependency: string, code: 'ARCHIVE_DENIED' | 'ARCHIVE_UNAVAILABLE' | 'KORE_UNAVAILABLE') => ({
  dependency,
  state: 'open' as const,
  since: '2030-05-06T09:12:40.000Z',
  code,
});
const limited = { limit: 60, windowSeconds: 60, used: 60, limitedUntil: '2030-05-06T10:34:00.000Z' };

describe('health', () => {
  const cases: readonly [what: string, facts: HealthFacts, level: string, text: string][] = [
    ['nothing to do', QUIET, 'ok', 'All is well: there is nothing to do.'],
    [
      'sessions that are archived',
      { ...BUSY, throughput: minutes([10, 0], [2, 1]) },
      'ok',
      'All is well: 12 archived and 1 failed in the last 2 minutes, 214 to go.',
    ],
    ['sessions that were queued just now', BUSY, 'ok', 'All is well: 214 sessions wait.'],
    [
      'a pause, before anything else',
      { ...BUSY, paused: true, pausedSince: '2030-05-05T22:00:10.000Z', workers: [] },
      'waiting',
      'Paused since 2030-05-05 22:00 UTC: 214 sessions wait.',
    ],
    ['no worker', { ...BUSY, workers: [] }, 'trouble', 'No worker is alive: 214 sessions are queued.'],
    ['no worker, and nothing to do', { ...QUIET, workers: [] }, 'ok', 'All is well: there is nothing to do.'],
    [
      'refused credentials',
      { ...BUSY, heldFor: 'KORE_UNAUTHORIZED' },
      'trouble',
      'Kore refuses the credentials: 214 sessions wait.',
    ],
    [
      'a bucket that denies, before a Kore that is unavailable',
      { ...BUSY, openBreakers: [open('kore', 'KORE_UNAVAILABLE'), open('bucket', 'ARCHIVE_DENIED')] },
      'trouble',
      'The bucket denies writes since 09:12 UTC: 214 sessions wait.',
    ],
    [
      'a bucket that is unavailable',
      { ...BUSY, openBreakers: [open('bucket', 'ARCHIVE_UNAVAILABLE')] },
      'trouble',
      'The bucket does not answer since 09:12 UTC: 214 sessions wait.',
    ],
    [
      'Kore unavailable, without a time',
      { ...BUSY, backlog: { sessions: 1 }, openBreakers: [{ dependency: 'kore', state: 'open' }] },
      'trouble',
      'Kore does not answer: 1 session waits.',
    ],
    [
      'a media host unavailable',
      { ...BUSY, openBreakers: [open('media:files.example.com', 'KORE_UNAVAILABLE')] },
      'waiting',
      'The media host files.example.com does not answer since 09:12 UTC: 214 sessions wait.',
    ],
    [
      "Kore's rate limit",
      { ...BUSY, rateLimit: limited },
      'waiting',
      "Waiting for Kore's rate limit until 10:34 UTC: 214 sessions wait.",
    ],
    [
      'mostly failures',
      { ...BUSY, throughput: minutes([1, 3], [0, 3]) },
      'trouble',
      'Most sessions fail: 6 of 7 in the last 5 minutes.',
    ],
    [
      'a standstill',
      { ...BUSY, oldestQueuedAt: '2030-05-06T10:10:00.000Z' },
      'trouble',
      'Nothing was archived in the last 10 minutes, though 200 sessions are queued.',
    ],
  ];

  it.each(cases)('the health message covers %s', (_what, facts, level, text) => {
    expect(healthOf(facts, NOW)).toEqual({ level, text });
  });
});
