import { describe, expect, it } from 'vitest';
import { type ErrorCode, VoicemailError } from '../../src/domain/errors.ts';
import { CallLimitReached } from '../../src/jobs/call-limit.ts';
import { callsListing } from '../../src/kore/listings/calls.ts';
import type { ListedSession } from '../../src/kore/listings/listing.ts';
import { createVoicemailFlags } from '../../src/kore/listings/voicemail-flags.ts';
import { createLogger } from '../../src/util/log.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const BEGAN = Date.UTC(2026, 0, 5, 9, 3);
const never = new AbortController().signal;

/** Flags by a listing that answers as the test says. */
function open(rows: readonly ListedSession[], answer: () => Promise<void> = async () => undefined) {
  const state = { now: BEGAN + MINUTE_MS, pages: 0, rows, log: [] as string[] };
  const flags = createVoicemailFlags({
    listing: callsListing('o-1'),
    async listPage() {
      state.pages += 1;
      await answer();
      return { sessions: state.rows, rows: state.rows.length, unreadable: 0, isLast: true, total: undefined };
    },
    now: () => state.now,
    log: createLogger('info', (line) => state.log.push(line)),
  });
  const of = (sessionId: string, beganAt = BEGAN) => flags.of({ botId: 'st-1', sessionId, beganAt }, never);
  return { state, of };
}
const row = (sessionId: string, hasVoicemail: boolean | undefined): ListedSession => ({
  sessionId,
  hasVoicemail,
});

describe('voicemail flags', () => {
  it('voicemail flags are requested only from the third session of a span on, and once for concurrent sessions', async () => {
    const { state, of } = open([row('a', true), row('b', false), row('c', false), row('d', undefined)]);
    expect([await of('a'), await of('b'), await of('b')]).toEqual([undefined, undefined, undefined]);
    expect(state.pages).toBe(0);
    expect(await Promise.all(['a', 'b', 'c', 'd', 'e'].map((id) => of(id)))).toEqual([
      undefined,
      undefined,
      false,
      undefined,
      undefined,
    ]);
    expect(await Promise.all(['a', 'b', 'd'].map((id) => of(id)))).toEqual([true, false, undefined]);
    expect(state.pages).toBe(1);
    expect(await of('f', BEGAN + 30 * MINUTE_MS)).toBeUndefined();
  });

  it('voicemail flags are requested again while the calls may go on, and then once more', async () => {
    const { state, of } = open([row('c', false)]);
    for (const id of ['a', 'b', 'c']) await of(id);
    state.rows = [row('c', true)];
    state.now += 29_000;
    expect([await of('c'), state.pages]).toEqual([false, 1]);
    state.now += 2_000;
    expect([await of('c'), state.pages]).toEqual([true, 2]);
    state.now = BEGAN + HOUR_MS + MINUTE_MS;
    expect([await of('c'), state.pages]).toEqual([true, 3]);
    state.now += 9 * MINUTE_MS;
    expect([await of('c'), state.pages]).toEqual([true, 3]);
  });

  it.each<ErrorCode>(['KORE_UNAUTHORIZED', 'KORE_UNAVAILABLE', 'KORE_BAD_RESPONSE'])(
    'voicemail flags that are unavailable (%s) keep nobody waiting, and are not requested again for some minutes',
    async (code) => {
      const { state, of } = open([], async () => {
        throw new VoicemailError(code, 'no');
      });
      for (const id of ['a', 'b', 'c', 'd']) expect(await of(id)).toBeUndefined();
      expect(state.pages).toBe(1);
      expect(state.log.join()).toContain('each is requested');
      state.now += 11 * MINUTE_MS;
      await of('c');
      expect(state.pages).toBe(2);
    },
  );

  it('voicemail flags that a listing lacks are not requested again for some minutes', async () => {
    const { state, of } = open([row('c', undefined)]);
    for (const id of ['a', 'b', 'c', 'd', 'e']) expect(await of(id)).toBeUndefined();
    state.now += MINUTE_MS;
    await of('e');
    expect(state.pages).toBe(1);
  });

  it('voicemail flags wait for the call limit like everything else', async () => {
    const { of } = open([], async () => {
      throw new CallLimitReached(5_000, 'background');
    });
    await of('a');
    await of('b');
    await expect(of('c')).rejects.toThrow(CallLimitReached);
  });
});
