import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type ErrorCode, VoicemailError } from '../../src/domain/errors.ts';
import type { Readiness } from '../../src/domain/voicemail.ts';
import type { KoreAnswer } from '../../src/kore/transport.ts';
import { interpretVoicemail } from '../../src/kore/voicemail.ts';
import { registerSecret } from '../../src/util/redact.ts';

const NOW = Date.parse('2026-03-01T12:00:00Z');
const URL_A = 'https://media.kore.ai/a.wav?e=1772370000&n=1&s=c2lnbmF0dXJlQQ$$';
const URL_B = 'https://media.kore.ai/b.wav?e=1772370000&n=2&s=c2lnbmF0dXJlQg==';

function answer(status: number, body: unknown, headers: KoreAnswer['headers'] = {}): KoreAnswer {
  return { status, headers, body: typeof body === 'string' ? body : JSON.stringify(body) };
}

function refused(given: KoreAnswer): VoicemailError {
  try {
    interpretVoicemail(given, NOW);
  } catch (error) {
    if (error instanceof VoicemailError) return error;
    throw error;
  }
  throw new Error('expected a refusal');
}

describe('the documented sample', () => {
  test.each(['voicemail-response.json', 'voicemail-response.underscore.json'])(
    '%s comes out with every field as it is',
    (file) => {
      const text = readFileSync(new URL(`../fixtures/${file}`, import.meta.url), 'utf8');
      const voicemail = interpretVoicemail(answer(200, text));
      expect(voicemail.readiness).toBe('ready');
      expect(voicemail.status).toBe('success');
      expect(voicemail.recordings).toEqual([
        {
          fileName: 'voicemail_67aa38026e199c8f470exxxx.wav',
          fileUrl:
            'https://agentassist-az.korebots.com/api/getMediaStream/smartassistrecording/UAT/o-2b41857b-a1cb-5862-8faf-e3d99c3axxxx/st-b110e148-7428-5295-960b-099e8167xxxx/2025/10-02-2025/f-71f45a0e-da5a-5989-8a73-341a199bxxxx.wav?e=1739359482&n=3757551799&s=IldYeks0dFNacGtWbjJicGpNNU5KL0ZNUWtWZVhUQm9yelFMeVk2SDdkcWM9xxxx',
        },
      ]);
      // As text, so that the order of fields counts too.
      expect(JSON.stringify(voicemail.transcriptions)).toBe(JSON.stringify(JSON.parse(text).transcriptions));
    },
  );
});

describe('recordings', () => {
  const a = { fileName: 'a.wav', fileUrl: URL_A };
  const b = { fileName: 'b.wav', fileUrl: URL_B };

  test.each<[string, object, object[]]>([
    ['"voicemail recording"', { 'voicemail recording': [a] }, [a]],
    ['voicemail_recording', { voicemail_recording: [a] }, [a]],
    ['recording', { recording: [a, b] }, [a, b]],
    ['two names, other files', { 'voicemail recording': [a], recording: [b] }, [a, b]],
    [
      'all names, the same file',
      { 'voicemail recording': [a], voicemail_recording: [a], recording: [a] },
      [a],
    ],
    ['one name null', { 'voicemail recording': null, voicemail_recording: [a] }, [a]],
    ['one name empty', { 'voicemail recording': [], recording: [b] }, [b]],
    ['no name', { recording: [{ fileUrl: URL_A }] }, [{ fileName: '', fileUrl: URL_A }]],
    [
      'a name that is no text',
      { recording: [{ fileName: 7, fileUrl: URL_A }] },
      [{ fileName: '', fileUrl: URL_A }],
    ],
    ['a message beside them', { recording: [a], message: 'rate limit', code: 429 }, [a]],
  ])('%s', (_name, fields, expected) => {
    const voicemail = interpretVoicemail(answer(200, { status: 'success', transcriptions: [], ...fields }));
    expect(voicemail.recordings).toEqual(expected);
    expect(voicemail.readiness).toBe('ready');
  });

  test.each<[string, object, string]>([
    ['no URL', { recording: [{ fileName: 'secret-name.wav' }] }, 'recording > 0 > fileUrl'],
    ['an empty URL', { voicemail_recording: [a, { fileUrl: '' }] }, 'voicemail_recording > 1 > fileUrl'],
    ['a blank URL', { recording: [{ fileUrl: ' ' }] }, 'recording > 0 > fileUrl'],
    ['a URL that is no text', { recording: [{ fileUrl: { href: URL_A } }] }, 'recording > 0 > fileUrl'],
    ['no object', { 'voicemail recording': [URL_A] }, 'voicemail recording > 0'],
    ['null', { recording: [null] }, 'recording > 0'],
    ['no list', { recording: { fileUrl: URL_A } }, 'recording'],
    ['transcriptions that are no list', { recording: [a], transcriptions: 'words' }, 'transcriptions'],
    [
      'a transcription that is no object',
      { recording: [a], transcriptions: ['words'] },
      'transcriptions > 0',
    ],
  ])('%s is an unexpected shape, whose place is named and whose content is not', (_name, fields, place) => {
    const error = refused(answer(200, { status: 'success', ...fields }));
    expect(error.code).toBe('KORE_BAD_RESPONSE');
    expect(error.retryable).toBe(true);
    expect(error.message).toBe(`Kore's answer has an unexpected shape: at ${place}`);
    expect(error.cause).toBeUndefined();
  });
});

describe('transcriptions', () => {
  test.each([[{}], [{ transcriptions: null }], [{ transcriptions: [] }]])('%j is none', (fields) => {
    expect(interpretVoicemail(answer(200, { status: 'success', ...fields })).transcriptions).toEqual([]);
  });

  test('unknown fields stay, in their order, even those that objects treat as special', () => {
    const body = '{"transcriptions":[{"zz":1,"__proto__":{"a":2},"_id":"x","__v":0,"n":{"deep":[null]}}]}';
    const { transcriptions } = interpretVoicemail(answer(200, body));
    expect(JSON.stringify({ transcriptions })).toBe(body);
  });
});

describe('readiness', () => {
  const listed = [{ fileName: 'a.wav', fileUrl: URL_A }];

  test.each<[unknown, boolean, Readiness]>([
    ['success', true, 'ready'],
    ['success', false, 'later'],
    [undefined, true, 'ready'],
    [undefined, false, 'later'],
    ['call_in_progress', true, 'later'],
    ['call_in_progress', false, 'later'],
    ['media_in_progress', true, 'later'],
    ['MEDIA_IN_PROGRESS', true, 'later'],
    ['media_unavailable', true, 'never'],
    ['media_unavailable', false, 'never'],
    ['failed', false, 'never'],
    ['something_new', true, 'ready'],
    ['something_new', false, 'later'],
    ['', false, 'later'],
    [null, true, 'ready'],
  ])('status %j with recordings %j is %s', (status, hasRecordings, expected) => {
    const voicemail = interpretVoicemail(answer(200, { status, recording: hasRecordings ? listed : [] }));
    expect(voicemail.readiness).toBe(expected);
  });

  test('an entry without a URL is no fault while the media is in progress', () => {
    const body = { status: 'media_in_progress', recording: [{ fileName: 'a.wav', fileUrl: '' }] };
    expect(interpretVoicemail(answer(200, body))).toMatchObject({ readiness: 'later', recordings: [] });
  });

  test('the status is kept short and printable', () => {
    const { status } = interpretVoicemail(answer(200, { status: `new\u0000\u202e\n${'x'.repeat(100)}` }));
    expect(status).toBe(`new ${'x'.repeat(59)}…`);
  });
});

describe('limits', () => {
  const PER_MINUTE = "You've exceeded the per-minute rate limit. Please wait for sometime before retrying.";
  const HOURLY = "You've exceeded the hourly rate limit. Please wait for sometime before retrying.";
  const API = 'Rate limit for this API has been reached. Please try again after some time.';

  test.each<[string, KoreAnswer, number]>([
    ['429 with nothing else', answer(429, ''), 60_000],
    ['429 with HTML', answer(429, '<html>slow down</html>'), 60_000],
    ['Retry-After in seconds', answer(429, '', { 'retry-after': '7' }), 7_000],
    ['Retry-After 0 waits a second', answer(429, '', { 'retry-after': '0' }), 1_000],
    ['Retry-After as a date', answer(429, '', { 'retry-after': 'Sun, 01 Mar 2026 12:02:00 GMT' }), 120_000],
    [
      'a date is measured by the server’s clock',
      answer(429, '', {
        'retry-after': 'Sun, 01 Mar 2026 13:00:30 GMT',
        date: 'Sun, 01 Mar 2026 13:00:00 GMT',
      }),
      30_000,
    ],
    ['a date in the past', answer(429, '', { 'retry-after': 'Sun, 01 Mar 2026 11:00:00 GMT' }), 1_000],
    ['a Retry-After beyond reason', answer(429, '', { 'retry-after': '99999999' }), 86_400_000],
    ['a Retry-After that says nothing', answer(429, '', { 'retry-after': 'soon' }), 60_000],
    ['a negative Retry-After', answer(429, '', { 'retry-after': '-5' }), 60_000],
    ['the per-minute text with 200', answer(200, { code: 400, message: PER_MINUTE }), 60_000],
    ['the per-minute text with 400', answer(400, { errors: [{ msg: PER_MINUTE, code: 4002 }] }), 60_000],
    ['the hourly text with 412', answer(412, { errors: [{ msg: HOURLY, code: 4002 }] }), 900_000],
    [
      'the hourly text with Retry-After',
      answer(200, { errors: [{ msg: HOURLY }] }, { 'retry-after': '30' }),
      30_000,
    ],
    ["the API's text with 401", answer(401, { code: 401, message: API }), 60_000],
    ["the API's text with 503", answer(503, API), 60_000],
    ['the text alone with 200', answer(200, API), 60_000],
    ['the text as JSON with 200', answer(200, JSON.stringify(API)), 60_000],
    ['the text beside a status with 200', answer(200, { status: 'failed', message: PER_MINUTE }), 60_000],
    ['code 429 with 200', answer(200, { code: 429, message: 'no' }), 60_000],
    ['code 429 in the other envelope with 200', answer(200, { errors: [{ msg: 'no', code: 429 }] }), 60_000],
  ])('%s', (_name, given, retryAfterMs) => {
    const error = refused(given);
    expect(error).toMatchObject({ code: 'KORE_RATE_LIMITED', retryable: true, retryAfterMs });
  });

  test("a caller's words are no limit", () => {
    const transcriptions = [{ components: [{ cT: 'text', data: { text: PER_MINUTE } }] }];
    expect(interpretVoicemail(answer(200, { status: 'success', transcriptions })).readiness).toBe('later');
  });
});

describe('refusals', () => {
  test.each<[string, KoreAnswer, ErrorCode, boolean, RegExp]>([
    [
      'a missing scope',
      answer(401, { errors: [{ msg: 'Permission denied. Scope is incorrect!', code: 4002 }] }),
      'KORE_UNAUTHORIZED',
      true,
      /"Permission denied\. Scope is incorrect!".*SmartAssist Voicemail.*publish/,
    ],
    [
      'a wrong token',
      answer(401, { code: 401, message: 'Invalid JWT token' }),
      'KORE_UNAUTHORIZED',
      true,
      /"Invalid JWT token".*KORE_CLIENT_SECRET/,
    ],
    [
      'a wrong bot',
      answer(401, { errors: [{ msg: 'Invalid SDK credentials', code: 4001 }] }),
      'KORE_UNAUTHORIZED',
      true,
      /"Invalid SDK credentials".*bot id/,
    ],
    [
      '401 without words',
      answer(401, ''),
      'KORE_UNAUTHORIZED',
      true,
      /status 401.*KORE_CLIENT_ID.*published/,
    ],
    ['401 in plain words', answer(401, 'Unauthorized'), 'KORE_UNAUTHORIZED', true, /"Unauthorized"/],
    ['403', answer(403, { message: 'Forbidden' }), 'KORE_UNAUTHORIZED', true, /"Forbidden"/],
    [
      '401 inside 200',
      answer(200, { code: 401, message: 'Nope' }),
      'KORE_UNAUTHORIZED',
      true,
      /code 401.*"Nope"/,
    ],
    [
      "Kore's words inside 200",
      answer(200, { errors: [{ msg: 'Invalid JWT token', code: 4002 }] }),
      'KORE_UNAUTHORIZED',
      true,
      /code 4002/,
    ],
    [
      '404',
      answer(404, { errors: [{ msg: 'Not found', code: 404 }] }),
      'SESSION_NOT_FOUND',
      false,
      /"Not found"/,
    ],
    [
      '404 inside 200',
      answer(200, { errors: [{ msg: 'x', code: '404' }] }),
      'SESSION_NOT_FOUND',
      false,
      /404/,
    ],
    ['400', answer(400, { code: 400, message: 'Bad id' }), 'KORE_BAD_RESPONSE', false, /"Bad id"/],
    ['400 inside 200', answer(200, { code: 400, message: 'Bad id' }), 'KORE_BAD_RESPONSE', false, /"Bad id"/],
    [
      '412',
      answer(412, { errors: [{ msg: 'Bad id', code: 4002 }] }),
      'KORE_BAD_RESPONSE',
      false,
      /412, code 4002/,
    ],
    ['422', answer(422, ''), 'KORE_BAD_RESPONSE', false, /422/],
    ['405', answer(405, ''), 'KORE_BAD_RESPONSE', true, /405/],
    ['500', answer(500, '<html>oops</html>'), 'KORE_UNAVAILABLE', true, /status 500\)/],
    ['503', answer(503, { message: 'Maintenance' }), 'KORE_UNAVAILABLE', true, /"Maintenance"/],
    ['500 inside 200', answer(200, { code: 500, message: 'Oops' }), 'KORE_UNAVAILABLE', true, /"Oops"/],
    ['408', answer(408, ''), 'KORE_UNAVAILABLE', true, /408/],
    [
      'a redirect',
      answer(302, '', { location: 'https://login.kore.ai/x?token=abc' }),
      'KORE_BAD_RESPONSE',
      true,
      /to login\.kore\.ai \(status 302\).*check KORE_HOST/,
    ],
    [
      'an unknown error',
      answer(200, { errors: [{ msg: 'Odd', code: 4711 }] }),
      'KORE_BAD_RESPONSE',
      true,
      /"Odd"/,
    ],
    ['an error without words', answer(200, { errors: [{}] }), 'KORE_BAD_RESPONSE', true, /with an error/],
    [
      'several errors',
      answer(200, { errors: ['one', { message: 'two' }] }),
      'KORE_BAD_RESPONSE',
      true,
      /"one; two"/,
    ],
    ['an error object', answer(200, { error: { message: 'Odd' } }), 'KORE_BAD_RESPONSE', true, /"Odd"/],
    ['cut-off JSON', answer(200, '{"status":"succ'), 'KORE_BAD_RESPONSE', true, /cut off or no JSON/],
    ['HTML', answer(200, '<!doctype html>'), 'KORE_BAD_RESPONSE', true, /a page for browsers/],
    ['nothing', answer(200, ''), 'KORE_BAD_RESPONSE', true, /is empty/],
    ['a list', answer(200, []), 'KORE_BAD_RESPONSE', true, /no JSON object/],
    ['null', answer(200, 'null'), 'KORE_BAD_RESPONSE', true, /no JSON object/],
  ])('%s', (_name, given, code, retryable, message) => {
    const error = refused(given);
    expect(`${error.message}; ${error.hint}`).toMatch(message);
    expect(error).toMatchObject({ code, retryable });
  });

  test('503 honours Retry-After, and does without', () => {
    expect(refused(answer(503, '', { 'retry-after': '12' })).retryAfterMs).toBe(12_000);
    expect(refused(answer(503, '')).retryAfterMs).toBeUndefined();
  });

  test('a message that success carries is no error', () => {
    expect(interpretVoicemail(answer(200, { code: 200, message: 'No recording yet' })).readiness).toBe(
      'later',
    );
    expect(interpretVoicemail(answer(200, { status: 'success', message: 'Nothing yet' })).readiness).toBe(
      'later',
    );
  });
});

describe('messages', () => {
  test('Kore’s words are quoted on one line, short and without secrets', () => {
    registerSecret('s3cr3t-in-a-message');
    const msg = `Bad\r\n\u0000\u202eid ${URL_A} s3cr3t-in-a-message ${'x'.repeat(500)}`;
    const { message } = refused(answer(401, { errors: [{ msg }] }));
    const quoted = /"([^"]*)"/.exec(message)?.[1] ?? '';
    expect(quoted).toMatch(/^Bad id https:\/\/media\.kore\.ai\/a\.wav\?\[redacted\] \[redacted\] x+…$/);
    expect(quoted).toHaveLength(200);
  });

  test('a token that the cut would halve is still taken out', () => {
    const token = `eyJhbGciOiJIUzI1NiJ9.${'a'.repeat(400)}.sig`;
    const { message } = refused(answer(401, { message: `${'x'.repeat(180)} ${token}` }));
    expect(message).not.toContain('eyJ');
  });

  test('nothing of a cut-off body is quoted', () => {
    const body = `{"recording":[{"fileUrl":"${URL_A}"}],"transcriptions":[{"text":"call me back`;
    for (const status of [200, 400, 401, 404, 500]) {
      const error = refused(answer(status, body));
      expect(`${error.message} ${String(error.cause)}`).not.toMatch(/media\.kore|call me|c2ln/);
    }
  });
});
