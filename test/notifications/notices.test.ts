import { describe, expect, it } from 'vitest';
import {
  type ArchivedOutcome,
  type FailedOutcome,
  NOTIFICATION_EVENTS,
} from '../../src/domain/notifications.ts';
import { completenessNotice, noticesOf } from '../../src/notifications/notices.ts';

const AT = '2026-01-05T09:30:00.000Z';
const recording = (name: string) => ({ key: `a/${name}`, bytes: 4, sha256: 'ab', contentType: 'audio/wav' });
const archived: ArchivedOutcome = {
  kind: 'archived',
  botId: 'st-1',
  sessionId: 's-1',
  archivedAt: '2026-01-05T09:29:00.000Z',
  revision: 1,
  recordings: [recording('1.wav')],
  transcript: 'archived',
  transcriptSha256: 'cd',
  manifestKey: 'a/manifest.json',
};
const failed: FailedOutcome = {
  kind: 'failed',
  botId: 'st-1',
  sessionId: 's-1',
  attempts: 3,
  error: { code: 'RECORDING_TOO_LARGE', message: 'too large', retryable: false, at: AT },
};
const partial: FailedOutcome = {
  ...failed,
  recordings: [recording('1.wav')],
  missing: [{ fileName: '2.wav', code: 'RECORDING_TOO_LARGE', message: 'too large', at: AT }],
};
const eventsOf = (outcome: Parameters<typeof noticesOf>[0], events = [...NOTIFICATION_EVENTS]) =>
  noticesOf(outcome, events, AT).map(({ event }) => event);
const idsOf = (outcome: Parameters<typeof noticesOf>[0], at = AT) =>
  noticesOf(outcome, NOTIFICATION_EVENTS, at).map(({ id }) => id);

describe('the events of notifications', () => {
  it.each([
    ['an archived session with its transcript', archived, ['archived', 'transcript']],
    ['one whose transcript is given up', { ...archived, transcript: 'absent' }, ['archived', 'transcript']],
    ['one whose transcript is awaited', { ...archived, transcript: 'pending' }, ['archived']],
    ['a failed session', failed, ['failed']],
    ['one of which some recordings were saved', partial, ['partial']],
  ] as const)('notifications report %s', (_title, outcome, events) => {
    expect(eventsOf(outcome)).toEqual(events);
  });

  it('notifications report only the events that are enabled', () => {
    expect(eventsOf(archived, ['transcript', 'failed'])).toEqual(['transcript']);
    expect(eventsOf(failed, ['archived'])).toEqual([]);
  });

  it('notifications report a partial archive as a failure where only failures are enabled', () => {
    expect(eventsOf(partial, ['failed'])).toEqual(['failed']);
  });

  it('notifications show the session as its view does', () => {
    expect(noticesOf(partial, NOTIFICATION_EVENTS, AT)).toEqual([
      {
        id: expect.stringMatching(/^partial-[0-9a-f]{32}$/),
        event: 'partial',
        at: AT,
        session: {
          botId: 'st-1',
          sessionId: 's-1',
          state: 'failed',
          attempts: 3,
          error: failed.error,
          recordings: partial.recordings,
          missing: partial.missing,
        },
      },
    ]);
  });
});

describe('ids of notifications', () => {
  it('the id of a notification is the same when the same event is reported again, at any time', () => {
    expect(idsOf(archived, '2027-01-01T00:00:00.000Z')).toEqual(idsOf(archived));
    expect(idsOf(failed, '2027-01-01T00:00:00.000Z')).toEqual(idsOf(failed));
  });

  it('the id of a transcript notification is the same when only a recording is new, and the other way round', () => {
    const [first, transcript] = idsOf(archived);
    const later = { ...archived, revision: 2, recordings: [recording('1.wav'), recording('2.wav')] };
    expect(idsOf(later)).toEqual([expect.not.stringContaining(String(first)), transcript]);
    expect(idsOf({ ...archived, revision: 2, transcriptSha256: 'ef' })).toEqual([
      first,
      expect.not.stringContaining(String(transcript)),
    ]);
  });

  it.each([
    ['another bot', { botId: 'st-2' }],
    ['another session', { sessionId: 's-2' }],
    ['archived anew', { archivedAt: '2026-01-06T09:29:00.000Z' }],
  ])('the id of a notification differs for %s', (_title, change) => {
    const before = new Set(idsOf(archived));
    expect(idsOf({ ...archived, ...change }).filter((id) => before.has(id))).toEqual([]);
  });

  it('the id of a notification differs for another failure of the same session', () => {
    const again = { ...failed, error: { ...failed.error, at: '2026-01-06T00:00:00.000Z' } };
    expect(idsOf(again)).not.toEqual(idsOf(failed));
  });

  it('the id of a completeness notification depends on bot, day and counts, and not on their order', () => {
    const report = { botId: 'st-1', date: '2026-01-05', counts: { archived: 3, missing: 1 } };
    const id = completenessNotice(report, AT).id;
    const idWith = (change: object) => completenessNotice({ ...report, ...change }, AT).id;
    expect(idWith({ counts: { missing: 1, archived: 3 } })).toBe(id);
    expect(idWith({ counts: { archived: 4, missing: 0 } })).not.toBe(id);
    expect(idWith({ date: '2026-01-06' })).not.toBe(id);
  });
});
