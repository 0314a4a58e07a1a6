import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VoicemailError } from '../../src/domain/errors.ts';
import type { NotifiedSession } from '../../src/domain/notifications.ts';
import { decideOutcome } from '../../src/workers/failure-policy.ts';
import { withFirstFailure } from '../../src/workers/session-outcome.ts';
import { describeOnEachSetup } from '../support/each-setup.ts';
import {
  isSigned,
  notifyConfig,
  type Received,
  type Receiver,
  startReceiver,
} from '../support/notification-receiver.ts';
import { SPOKEN } from '../support/pipeline.ts';

const HOUR_MS = 3_600_000;
const IMPATIENT = { recordingWaitMs: 0, retryWaitMs: 0, sessionWaitMs: 0 };

let receiver: Receiver;

beforeEach(async () => {
  receiver = await startReceiver();
});

afterEach(async () => {
  await receiver.close();
  expect(receiver.received.filter((one) => !isSigned(one))).toEqual([]);
  for (const { raw } of receiver.received) expect(raw.toString()).not.toContain(SPOKEN);
});

/** The notifications so far of each event, the first of each id. */
function notified(): Record<string, NotifiedSession[]> {
  const byEvent: Record<string, NotifiedSession[]> = {};
  for (const { body } of receiver.taken().values()) {
    if (body.event === 'completeness') continue;
    byEvent[body.event] = [...(byEvent[body.event] ?? []), body.session];
  }
  return byEvent;
}

const count = (now: Receiver) => now.taken().size;
const idsOf = (event: string) =>
  [...receiver.taken().values()]
    .map(({ body }: Received) => body.id)
    .filter((id) => id.startsWith(`${event}-`));

describeOnEachSetup(
  'the receiver of notifications',
  (start) => {
    it('the receiver is notified of a session and its transcript as the archive has them', async () => {
      const pipeline = await start({ notify: notifyConfig(receiver) });
      const sessionId = pipeline.sandbox.addSession({ recordings: [{ seconds: 1 }], transcription: SPOKEN });
      await pipeline.enqueue(sessionId);
      const view = await pipeline.ends(sessionId);
      await receiver.until((now) => count(now) === 2);

      const { archivedAt } = await pipeline.manifest(sessionId);
      const session = {
        sessionId,
        botId: pipeline.sandbox.botId,
        state: 'archived',
        transcript: 'archived',
        archivedAt,
        revision: 1,
        recordings: view.recordings,
        manifestKey: view.manifestKey,
      };
      expect(notified()).toEqual({ archived: [session], transcript: [session] });
    });

    it('the receiver is notified of a transcript when it comes, and not before', async () => {
      let hasCome = false;
      const pipeline = await start({ notify: notifyConfig(receiver), work: { pollDelayMs: 20 } });
      const sessionId = pipeline.sandbox.addSession({
        transcription: SPOKEN,
        answer: (built) => (hasCome ? built : { ...built, transcriptions: [] }),
      });
      await pipeline.enqueue(sessionId);
      await receiver.until((now) => count(now) === 1);
      expect(notified()).toMatchObject({ archived: [{ transcript: 'pending', revision: 1 }] });
      hasCome = true;
      await pipeline.transcriptSettled(sessionId);
      await receiver.until((now) => count(now) === 2);
      expect(notified()).toMatchObject({
        archived: [{ revision: 1 }],
        transcript: [{ transcript: 'archived', revision: 2 }],
      });
    });

    it('the receiver is notified of a transcript that is given up', async () => {
      const pipeline = await start({ notify: notifyConfig(receiver), work: { transcriptWaitMs: 0 } });
      const sessionId = pipeline.sandbox.addSession({ recordings: [{ seconds: 1 }] });
      await pipeline.enqueue(sessionId);
      await pipeline.transcriptSettled(sessionId);
      await receiver.until((now) => count(now) === 2);
      expect(notified().transcript).toMatchObject([{ sessionId, state: 'archived', transcript: 'absent' }]);
    });

    it('the receiver is notified of a recording that comes late, as the next revision', async () => {
      let isLate = false;
      const pipeline = await start({ notify: notifyConfig(receiver), work: { settleWaitMs: HOUR_MS } });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav' }],
        transcription: SPOKEN,
        answer: (built) => {
          const [recording, ...recordings] = built['voicemail recording'] as unknown[];
          return { ...built, 'voicemail recording': isLate ? [recording, ...recordings] : [recording] };
        },
      });
      await pipeline.enqueue(sessionId);
      await receiver.until((now) => count(now) === 2);
      isLate = true;
      await pipeline.skipWaits();
      await receiver.until((now) => count(now) === 3);
      expect(notified().archived).toMatchObject([{ revision: 1 }, { revision: 2 }]);
      expect(notified().archived?.map(({ recordings }) => recordings?.length)).toEqual([1, 2]);
      expect(notified().transcript).toHaveLength(1);
    });

    it('the receiver is notified of each failure once, with what could be saved', async () => {
      const pipeline = await start({ notify: notifyConfig(receiver), work: IMPATIENT });
      const whole = pipeline.sandbox.addSession({ recordings: [{ bytes: 70_000_000 }] });
      const part = pipeline.sandbox.addSession({
        recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav', bytes: 70_000_000 }],
      });
      await pipeline.enqueue(whole, part);
      await receiver.until((now) => count(now) === 2);
      const error = { code: 'RECORDING_TOO_LARGE', retryable: false };
      expect(notified()).toEqual({
        failed: [
          {
            sessionId: whole,
            botId: pipeline.sandbox.botId,
            state: 'failed',
            attempts: 1,
            error: expect.objectContaining(error),
          },
        ],
        partial: [
          expect.objectContaining({
            sessionId: part,
            error: expect.objectContaining(error),
            recordings: [expect.objectContaining({ contentType: 'audio/wav' })],
            missing: [expect.objectContaining({ fileName: 'two.wav', code: 'RECORDING_TOO_LARGE' })],
          }),
        ],
      });

      // Retried by hand, it fails anew, which is another failure.
      const session = { botId: pipeline.sandbox.botId, sessionId: whole };
      await pipeline.ends(whole);
      expect(await pipeline.operations.retry(session)).toBe('requeued');
      await receiver.until((now) => count(now) === 3);
      expect(new Set(idsOf('failed')).size).toBe(2);
    });

    it('the receiver is not notified of sessions that wait, and of those without a voicemail', async () => {
      const pipeline = await start({ notify: notifyConfig(receiver) });
      const waiting = pipeline.sandbox.addSession({ statuses: ['media_in_progress'] });
      const without = pipeline.sandbox.addSession({ statuses: ['media_unavailable'] });
      const last = pipeline.sandbox.addSession({ transcription: SPOKEN });
      await pipeline.request(
        { sessionId: waiting },
        { sessionId: without, maybe: true },
        { sessionId: last },
      );
      await pipeline.waitFor(waiting, ({ state }) => state === 'waiting');
      await receiver.until((now) => count(now) === 2);
      expect(
        new Set(Object.values(notified()).flatMap((all) => all.map(({ sessionId }) => sessionId))),
      ).toEqual(new Set([last]));
    });
  },
  [
    { queue: 'redis', archive: 's3' },
    { queue: 'postgres', archive: 'file' },
  ],
);

describe('a failure that was reported before its worker died', () => {
  const limits = {
    recordingWaitMs: 0,
    sessionWaitMs: 0,
    pollDelayMs: 1,
    retryDelayMs: 1,
    retryWaitMs: 0,
    unauthorizedPauseMs: 1,
  };
  const error = new VoicemailError('RECORDING_TOO_LARGE', 'too large');
  const outcomeAt = (now: number, progress: Parameters<typeof withFirstFailure>[1]) =>
    withFirstFailure(decideOutcome({ error, attemptsMade: 0, progress, now }, limits), progress);

  it('a failure that was reported before its worker died keeps its id when it is reported again', () => {
    const first = outcomeAt(1_000, {});
    const again = outcomeAt(50_000, first.progress);
    expect(first.verdict.kind).toBe('fail');
    expect(again.progress.error?.at).toBe(first.progress.error?.at);
  });

  it('a failure after a retry by hand, or in an attempt that was to be followed by another, gets a new id', () => {
    const { error: previous } = outcomeAt(1_000, {}).progress;
    expect(outcomeAt(50_000, {}).progress.error?.at).not.toBe(previous?.at);
    const waited = { ...(previous && { error: previous }), nextAttemptAt: '2026-01-01T00:00:00.000Z' };
    expect(outcomeAt(50_000, waited).progress.error?.at).not.toBe(previous?.at);
  });
});
