import { describe, expect, it } from 'vitest';
import type { AudioEnd } from '../../src/transfer/audio/container.ts';
import { judgeIntegrity } from '../../src/transfer/download.ts';

const conclusion = (end: AudioEnd, ...notes: string[]) => ({ facts: { container: 'wav' }, end, notes });

const KNOWN = { isLengthKnown: true, isRepeated: false };
const UNKNOWN = { isLengthKnown: false, isRepeated: false };
const REPEATED = { isLengthKnown: false, isRepeated: true };

describe('the integrity of a download', () => {
  it.each([
    ['a known length, the end confirmed', KNOWN, conclusion('confirmed'), 'verified', undefined],
    ['a known length, the end left open', KNOWN, conclusion('open'), 'verified', undefined],
    ['a known length, a remark', KNOWN, conclusion('confirmed', 'odd'), 'suspect', undefined],
    ['a known length, an end that is missing', KNOWN, conclusion('missing', 'cut'), 'suspect', 'cut'],
    ['a known length, no known container', KNOWN, undefined, 'suspect', undefined],
    ['no length, the end confirmed', UNKNOWN, conclusion('confirmed'), 'verified', undefined],
    ['no length, the end confirmed, a remark', UNKNOWN, conclusion('confirmed', 'odd'), 'suspect', undefined],
    ['no length, the end left open', UNKNOWN, conclusion('open'), 'suspect', 'unconfirmed'],
    ['no length, an end that is missing', UNKNOWN, conclusion('missing', 'cut'), 'suspect', 'cut'],
    ['no length, no known container', UNKNOWN, undefined, 'suspect', 'unconfirmed'],
    ['no length, twice the same, the end left open', REPEATED, conclusion('open'), 'unverified', undefined],
    ['no length, twice the same, a remark', REPEATED, conclusion('open', 'odd'), 'suspect', undefined],
    [
      'no length, twice the same, an end that is missing',
      REPEATED,
      conclusion('missing', 'cut'),
      'suspect',
      'cut',
    ],
    ['no length, twice the same, no known container', REPEATED, undefined, 'suspect', undefined],
  ] as const)(
    'the integrity of a download is judged right with %s',
    (_name, how, concluded, state, doubt) => {
      const judgement = judgeIntegrity({ ...how, conclusion: concluded });
      expect([judgement.integrity.state, judgement.doubt]).toEqual([state, doubt]);
      // Only the state suspect has notes.
      expect(judgement.integrity.notes.length > 0).toBe(state === 'suspect');
    },
  );

  it('the integrity of a download names how the bytes came beside what they say themselves', () => {
    const { integrity } = judgeIntegrity({
      ...KNOWN,
      conclusion: conclusion('open', 'odd'),
      notes: ['encoded'],
    });
    expect(integrity).toEqual({ state: 'suspect', notes: ['encoded', 'odd'] });
  });
});
