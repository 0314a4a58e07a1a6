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
    'the documented sample %s is read with every field as it is',
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

describe('recordings in an answer of Kore', () => {
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
  ])('recordings are read from an answer with %s', (_name, fields, expected) => {
    const voicemail = interpretVoicemail(answer(200, { status: 'success', transcriptions: [], ...fields }));
    expect(voicemail.recordings).toEqual(expected);
    expect(voicemail.readiness).toBe('ready');
  });

  test.each<[string, object, object[]]>([
    ['one object', { 'voicemail recording': a }, [a]],
    ['a URL', { 'voicemail recording': URL_A }, [{ fileName: '', fileUrl: URL_A }]],
    ['URLs', { recording: [URL_A, URL_B] }, [URL_A, URL_B].map((fileUrl) => ({ fileName: '', fileUrl }))],
    [
      'data: URIs',
      { recording: ['data:audio/wav;base64,UklGRg=='] },
      [{ fileName: '', fileUrl: 'data:audio/wav;base64,UklGRg==' }],
    ],
    ['other casings', { VoicemailRecording: [{ FileName: 'a.wav', file_url: URL_A }] }, [a]],
    ['the name "url"', { recordings: [{ name: 'a.wav', url: URL_A }] }, [a]],
    ['an object of them', { recording: { 0: a, 1: b } }, [a, b]],
    ['a list in a list', { recording: [[a, b]] }, [a, b]],
    ['an object of a list', { 'voicemail recording': { count: 2, items: [a, b] } }, [a, b]],
    ['a status that says never, and a URL', { status: 'media_unavailable', recording: [a] }, [a]],
  ])('recordings are read from %s', (_name, fields, expected) => {
    const voicemail = interpretVoicemail(answer(200, { status: 'success', ...fields }));
    expect(voicemail).toMatchObject({ readiness: 'ready', recordings: expected, withoutUrl: [] });
  });

  test.each<[string, unknown, string]>([
    ['without a URL', { fileName: 'b.wav' }, 'b.wav'],
    ['with an empty URL', { fileName: 'b.wav', fileUrl: '' }, 'b.wav'],
    ['with a blank URL', { fileName: 'b.wav', fileUrl: ' ' }, 'b.wav'],
    ['with a URL that is no text', { fileName: 'b.wav', fileUrl: { href: URL_B } }, 'b.wav'],
    ['that is a name', 'b.wav', 'b.wav'],
    ['with a URL of 20,000 characters', { fileUrl: `https://x.kore.ai/${'y'.repeat(20_000)}` }, ''],
    ['with a host of 40,000 labels', { fileUrl: `https://${'a.'.repeat(40_000)}kore.ai/b.wav` }, ''],
  ])('an entry %s does not hide the other recordings, and is reported', (_name, entry, fileName) => {
    const voicemail = interpretVoicemail(answer(200, { status: 'success', recording: [a, entry] }));
    expect(voicemail.recordings).toEqual([a]);
    expect(voicemail.withoutUrl).toEqual([{ fileName, message: expect.stringMatching(/^Kore lists/) }]);
    expect(JSON.stringify(voicemail.withoutUrl)).not.toContain('c2ln');
    // Alone it is not taken for a session without a voicemail.
    expect(interpretVoicemail(answer(200, { recording: [entry] }))).toMatchObject({ readiness: 'ready' });
  });

  test.each<[string, (body: object) => unknown]>([
    ['a list of one', (body) => [body]],
    ['data', (data) => ({ status: 'ok', data })],
    ['response', (response) => ({ response })],
  ])('recordings are found in an answer inside %s', (_name, wrap) => {
    const wrapped = wrap({ status: 'success', recording: [a], transcriptions: ['text'] });
    expect(interpretVoicemail(answer(200, wrapped))).toMatchObject({
      readiness: 'ready',
      recordings: [a],
      transcriptions: ['text'],
    });
  });

  test.each([null, 7, true, '', ' ', []].map((entry) => [entry]))(
    'an entry %j is ignored beside recordings, unless there is nothing else',
    (entry) => {
      const voicemail = interpretVoicemail(answer(200, { status: 'success', recording: [entry, a, entry] }));
      expect(voicemail).toMatchObject({ readiness: 'ready', recordings: [a], withoutUrl: [] });
      expect(voicemail.ignoredEntries ?? 0).toBe(Array.isArray(entry) ? 0 : 2);
      const elsewhere = { 'voicemail recording': [entry], recording: [a] };
      expect(interpretVoicemail(answer(200, elsewhere))).toMatchObject({ recordings: [a], withoutUrl: [] });
      if (Array.isArray(entry)) return;
      const alone = interpretVoicemail(answer(200, { recording: [entry] }));
      expect(alone).toMatchObject({ readiness: 'ready', recordings: [], withoutUrl: [{ fileName: '' }] });
    },
  );

  test('two recordings of one name stay two, and one that is in two lists stays one', () => {
    const incomplete = { fileName: 'a.wav' };
    const twice = interpretVoicemail(answer(200, { recording: [a, incomplete, incomplete] }));
    expect([twice.recordings.length, twice.withoutUrl.length]).toEqual([1, 2]);
    const mirrored = { 'voicemail recording': [incomplete], recording: [a], recordings: [incomplete] };
    expect(interpretVoicemail(answer(200, mirrored))).toMatchObject({ recordings: [a], withoutUrl: [] });
  });

  test('at most 1,000 recordings are read from an answer', () => {
    const list = (length: number) => Array.from({ length }, (_, n) => `https://media.kore.ai/${n}.wav`);
    expect(interpretVoicemail(answer(200, { recording: list(1_000) })).recordings).toHaveLength(1_000);
    expect(refused(answer(200, { recording: list(1_001) }))).toMatchObject({
      code: 'KORE_BAD_RESPONSE',
      retryable: true,
    });
  });

  test.each<[string, string, string]>([
    ['a plain name', 'My call #3 (1).wav', 'My call #3 (1).wav'],
    ['controls and overrides', '\u001b[2Ja\u202e\u009bb.wav', '[2Jab.wav'],
    ['the whole URL', URL_A, 'https://media.kore.ai/a.wav'],
    ['the query alone', 'e=1772370000&n=1&s=c2lnbmF0dXJlQQ$$', ''],
    ['a part of the query', 'a.wav&s=c2lnbmF0dXJlQQ', 'a.wav'],
    ['the signature alone', 'a c2lnbmF0dXJlQQ$$.wav', 'a '.trim()],
    ['200,000 dots', '.'.repeat(200_000), '.'.repeat(1_024)],
  ])('the name of a recording is made presentable: %s', (_name, fileName, expected) => {
    const { recordings } = interpretVoicemail(answer(200, { recording: [{ fileName, fileUrl: URL_A }] }));
    expect(recordings).toEqual([{ fileName: expected, fileUrl: URL_A }]);
  });
});

describe('transcriptions in an answer of Kore', () => {
  test.each([[{}], [{ transcriptions: null }], [{ transcriptions: [] }]])(
    'an answer with %j has no transcriptions',
    (fields) => {
      expect(interpretVoicemail(answer(200, { status: 'success', ...fields })).transcriptions).toEqual([]);
    },
  );

  test.each([{}, 'text', [null], [{ a: 1 }, null], ['text'], 7].map((received) => [received]))(
    'transcriptions keep %j as it is',
    (received) => {
      const body = { status: 'success', recording: [URL_A], transcriptions: received };
      const voicemail = interpretVoicemail(answer(200, body));
      expect(voicemail.transcriptions).toEqual(Array.isArray(received) ? received : [received]);
      expect(voicemail.recordings).toHaveLength(1);
    },
  );

  test('numbers in transcriptions stay as they are, digit for digit', () => {
    const documents =
      '[{"id":12345678901234567890,"d":0.12345678901234567891,"e":1e400,"neg":-9007199254740993,"n":1.5}]';
    const { transcriptions } = interpretVoicemail(answer(200, `{"transcriptions":${documents}}`));
    expect(JSON.stringify(transcriptions)).toBe(documents);
    expect(transcriptions).toMatchObject([{ n: 1.5 }]);
  });

  test.each([5_000, 100_000])(
    'transcriptions nested %i deep exhaust no stack, and lose no recording',
    (levels) => {
      const deep = `${'{"a":['.repeat(levels / 2)}"words"${']}'.repeat(levels / 2)}`;
      const body = `{"status":"success","transcriptions":[{"_id":"m","deep":${deep}}],"recording":["${URL_A}"]}`;
      const { recordings, transcriptions } = interpretVoicemail(answer(200, body));
      expect(recordings).toHaveLength(1);
      // Readable, and nothing of it is lost.
      const text = JSON.stringify(transcriptions);
      expect(text.replaceAll('\\"', '"')).toContain('"words"');
      expect(text.length).toBeGreaterThan(deep.length);
    },
  );

  test('unknown fields of transcriptions stay, in their order, even those that objects treat as special', () => {
    const body = '{"transcriptions":[{"zz":1,"__proto__":{"a":2},"_id":"x","__v":0,"n":{"deep":[null]}}]}';
    const { transcriptions } = interpretVoicemail(answer(200, body));
    expect(JSON.stringify({ transcriptions })).toBe(body);
  });
});

describe('the readiness in an answer of Kore', () => {
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
    ['media_unavailable', true, 'ready'],
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

  test('the status of an answer is kept short and printable', () => {
    const { status } = interpretVoicemail(answer(200, { status: `new\u0000\u202e\n${'x'.repeat(100)}` }));
    expect(status).toBe(`new ${'x'.repeat(59)}…`);
  });
});

describe('limits on an answer of Kore', () => {
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
    ['a Retry-After beyond reason', answer(429, '', { 'retry-after': '99999999' }), 3_600_000],
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
  ])("a limit of Kore's (%s) gives its wait time", (_name, given, retryAfterMs) => {
    const error = refused(given);
    expect(error).toMatchObject({ code: 'KORE_RATE_LIMITED', retryable: true, retryAfterMs });
  });

  test('words of the caller are not taken for a limit', () => {
    const transcriptions = [{ components: [{ cT: 'text', data: { text: PER_MINUTE } }] }];
    expect(interpretVoicemail(answer(200, { status: 'success', transcriptions })).readiness).toBe('later');
  });
});

describe('refusals of Kore', () => {
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
      true,
      /"Not found"/,
    ],
    [
      '404 inside 200',
      answer(200, { errors: [{ msg: 'x', code: '404' }] }),
      'SESSION_NOT_FOUND',
      true,
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
    ['422', answer(422, { errors: [{ msg: 'Something is wrong' }] }), 'KORE_BAD_RESPONSE', true, /422/],
    ['405', answer(405, { code: 405, message: 'No' }), 'KORE_BAD_RESPONSE', true, /405/],
    [
      'an unknown session with status 412',
      answer(412, { errors: [{ msg: 'Session not found', code: 4002 }] }),
      'SESSION_NOT_FOUND',
      true,
      /"Session not found"/,
    ],
    [
      'an unknown session with status 200',
      answer(200, { code: 4002, message: 'No such session' }),
      'SESSION_NOT_FOUND',
      true,
      /code 4002/,
    ],
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
    ['HTML', answer(200, '<!doctype html>'), 'KORE_UNAVAILABLE', true, /a page for browsers/],
    ['words', answer(200, 'Back in a minute'), 'KORE_UNAVAILABLE', true, /is no JSON/],
    ['nothing', answer(200, ''), 'KORE_UNAVAILABLE', true, /is empty/],
    ['a list', answer(200, []), 'KORE_BAD_RESPONSE', true, /no JSON object/],
    ['null', answer(200, 'null'), 'KORE_BAD_RESPONSE', true, /no JSON object/],
    ['a number too large', answer(200, '1e999'), 'KORE_BAD_RESPONSE', true, /no JSON object/],
  ])('a refusal by Kore (%s) gives its code', (_name, given, code, retryable, message) => {
    const error = refused(given);
    expect(`${error.message}; ${error.hint}`).toMatch(message);
    expect(error).toMatchObject({ code, retryable });
  });

  test.each([400, 403, 404, 405, 407, 410, 412, 422, 500, 502, 503])(
    'a %i that Kore did not send itself is an outage, and never final',
    (status) => {
      const said = [
        '',
        '<html><title>Not Found</title><h1>Session not found</h1></html>',
        'no healthy upstream',
        {},
        [],
      ];
      if (status === 404) said.push({ message: 'no Route matched with those values' });
      for (const body of said) {
        expect(refused(answer(status, body)), JSON.stringify(body)).toMatchObject({
          code: 'KORE_UNAVAILABLE',
          retryable: true,
        });
      }
    },
  );

  test("a 401 is accepted as Kore's unless it is a page for browsers", () => {
    expect(refused(answer(401, '<html>Sign in to the proxy</html>')).code).toBe('KORE_UNAVAILABLE');
    expect(refused(answer(401, '')).code).toBe('KORE_UNAUTHORIZED');
    expect(refused(answer(401, 'Unauthorized')).hint).toMatch(/^check KORE_CLIENT_ID/);
  });

  test('a 503 gives the wait of its Retry-After, or none', () => {
    expect(refused(answer(503, '', { 'retry-after': '12' })).retryAfterMs).toBe(12_000);
    expect(refused(answer(503, '')).retryAfterMs).toBeUndefined();
  });

  test('a message in a successful answer is no error', () => {
    expect(interpretVoicemail(answer(200, { code: 200, message: 'No recording yet' })).readiness).toBe(
      'later',
    );
    expect(interpretVoicemail(answer(200, { status: 'success', message: 'Nothing yet' })).readiness).toBe(
      'later',
    );
  });
});

describe('messages in an answer of Kore', () => {
  test('Kore’s words are quoted on one line, short and without secrets', () => {
    registerSecret('s3cr3t-in-a-message');
    const msg = `Bad\r\n\u0000\u202eid ${URL_A} s3cr3t-in-a-message ${'x'.repeat(500)}`;
    const { message } = refused(answer(401, { errors: [{ msg }] }));
    const quoted = /"([^"]*)"/.exec(message)?.[1] ?? '';
    expect(quoted).toMatch(/^Bad id https:\/\/media\.kore\.ai\/a\.wav\?\[redacted\] \[redacted\] x+…$/);
    expect(quoted).toHaveLength(200);
  });

  test('a token that the shortening would halve is still redacted', () => {
    const token = `eyJhbGciOiJIUzI1NiJ9.${'a'.repeat(400)}.sig`;
    const { message } = refused(answer(401, { message: `${'x'.repeat(180)} ${token}` }));
    expect(message).not.toContain('eyJ');
  });

  test('no part of a cut-off body is quoted', () => {
    const body = `{"recording":[{"fileUrl":"${URL_A}"}],"transcriptions":[{"text":"call me back`;
    for (const status of [200, 400, 401, 404, 500]) {
      const error = refused(answer(status, body));
      expect(`${error.message} ${String(error.cause)}`).not.toMatch(/media\.kore|call me|c2ln/);
    }
  });
});
