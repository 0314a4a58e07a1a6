import { describe, expect, it } from 'vitest';
import { VoicemailError } from '../../src/domain/errors.ts';
import { createLogger } from '../../src/util/log.ts';
import { RepeatedErrors } from '../../src/workers/repeated-errors.ts';

const MINUTE = 60_000;

function listen() {
  const lines: Record<string, unknown>[] = [];
  const log = createLogger('info', (line) => lines.push(JSON.parse(line) as Record<string, unknown>));
  let now = 0;
  const complaints = new RepeatedErrors(log, () => now);
  return { lines, complaints, pass: (milliseconds: number) => (now += milliseconds) };
}

const notAllowed = (host: string) =>
  new VoicemailError('RECORDING_HOST_NOT_ALLOWED', `${host} is not one of KORE_MEDIA_HOSTS`, {
    host,
    hint: `add ${host} to KORE_MEDIA_HOSTS`,
  });

describe('a fault of the configuration', () => {
  it('a fault of the configuration is logged once however many sessions meet it, and once a minute with their number', () => {
    const { lines, complaints, pass } = listen();
    for (let session = 0; session < 500; session += 1) {
      complaints.say(notAllowed('a.example'), { session }, 'not allowed');
    }
    expect(lines).toEqual([
      expect.objectContaining({
        level: 'error',
        session: 0,
        code: 'RECORDING_HOST_NOT_ALLOWED',
        hint: 'add a.example to KORE_MEDIA_HOSTS',
        msg: 'not allowed',
      }),
    ]);
    pass(MINUTE);
    complaints.say(notAllowed('a.example'), { session: 500 }, 'not allowed');
    expect(lines.slice(1)).toEqual([expect.objectContaining({ session: 500, alsoSinceTheLastLine: 499 })]);
  });

  it('faults of the configuration are distinguished by code, host and dependency', () => {
    const { lines, complaints } = listen();
    complaints.say(notAllowed('a.example'), {}, 'one');
    complaints.say(notAllowed('b.example'), {}, 'two');
    complaints.say(new VoicemailError('KORE_UNAUTHORIZED', 'no'), {}, 'three', 'st-1');
    complaints.say(new VoicemailError('KORE_UNAUTHORIZED', 'no'), {}, 'four', 'st-2');
    expect(lines.map(({ msg }) => msg)).toEqual(['one', 'two', 'three', 'four']);
  });
});
