import { expect, it } from 'vitest';
import { memberNames, readNotification } from '../../src/api/webhook/notification.ts';
import { parseBindHost } from '../../src/config/parsers.ts';
import { parseArchiveUrl } from '../../src/config/urls.ts';
import { refusal } from '../../src/kore/errors.ts';
import { callsListing } from '../../src/kore/listings/calls.ts';
import { interpretVoicemail } from '../../src/kore/voicemail.ts';
import { recordingKeys } from '../../src/storage/layout.ts';
import { presentableFileName } from '../../src/util/file-name.ts';
import { parseJson, readPointer, scanJson } from '../../src/util/json.ts';
import { redact } from '../../src/util/redact.ts';
import { escapeControls, printable } from '../../src/util/text.ts';
import { assertLinear, TIMES_LARGER } from '../support/growth.ts';
import { PLAIN_S3 } from '../support/s3.ts';

const SESSION = { botId: 'st-1', sessionId: '67aa38026e199c8f470e0001' };
const answer = (body: string, status = 200) => ({ status, headers: {}, body });

/** What was super-linear once, or would be if it were written without care: work, and input of a size. */
const WORK: readonly [string, (size: number) => () => unknown][] = [
  ['redact: a host of labels', (n) => over(redact, `https://${'a.'.repeat(n)}?x`)],
  ['redact: labels without a URL', (n) => over(redact, 'a.'.repeat(n))],
  ['redact: schemes', (n) => over(redact, 'a://'.repeat(n))],
  ['redact: no schemes', (n) => over(redact, '://'.repeat(n))],
  ['redact: at signs', (n) => over(redact, `a://${'b@'.repeat(n)}`)],
  ['redact: beginnings of tokens', (n) => over(redact, 'eyJ-'.repeat(n))],
  ['redact: beginnings of signatures', (n) => over(redact, '&x-amz-a'.repeat(n))],
  ['redact: beginnings of data URIs', (n) => over(redact, 'data:a/'.repeat(n))],
  ['redact: a path', (n) => over(redact, `/v1/sessions/${'x/..-'.repeat(n)}`)],
  ['printable: unprintable text', (n) => over(printable, '\u001b \u202e'.repeat(n))],
  ['log lines: controls', (n) => over(escapeControls, '\u009b'.repeat(n))],
  ['JSON: depth', (n) => over(scanJson, '['.repeat(n))],
  ['JSON: backslashes', (n) => over(scanJson, `"${'\\'.repeat(2 * n)}"`)],
  ['JSON: quotes', (n) => over(scanJson, '"\\"'.repeat(n))],
  ['JSON: digits', (n) => over(scanJson, '1-'.repeat(n))],
  [
    'JSON: deep values',
    (n) => over(parseJson, `[${`${'['.repeat(300)}${']'.repeat(300)},`.repeat(n / 100)}1]`),
  ],
  ['JSON: long numbers', (n) => over(parseJson, `[${'12345678901234567890,'.repeat(n)}1]`)],
  // More values than are read.
  ['JSON: values', (n) => over(parseJson, `[${'{},'.repeat(100 * n)}1]`)],
  ['a listing: rows', (n) => over(readRowsOf, `{"data":[${'{},'.repeat(n)}{}]}`)],
  ['a JSON pointer', (n) => over((pointer) => readPointer({}, pointer), '/a'.repeat(n))],
  ['a notification: members', (n) => over(readBody, JSON.stringify(members(n)))],
  ['a notification: JSON in JSON', (n) => over(readBody, JSON.stringify({ a: JSON.stringify(members(n)) }))],
  ['a notification: names', (n) => over(memberNames, { ['\u001b'.repeat(n)]: members(n) })],
  ['an answer: recordings of one name', (n) => over(interpret, recordings(n, 'a.wav'))],
  [
    'an answer: recordings without URLs',
    (n) => over(interpret, JSON.stringify({ recording: Array(n).fill({}) })),
  ],
  ['an answer: members', (n) => over(interpret, JSON.stringify({ recording: [members(n)] }))],
  [
    'an answer: words',
    (n) => over((text) => refusal(answer(text, 400), { message: text }, 0), 'session '.repeat(n)),
  ],
  [
    'an answer: ids',
    (n) => over((text) => refusal(answer(text, 400), { message: text }, 0), 'bad id '.repeat(n)),
  ],
  ['the configuration: slashes', (n) => over(refused(archiveUrl), `s3://bucket/a${'/'.repeat(4 * n)}b`)],
  ['the configuration: a host', (n) => over(refused(parseBindHost), `${'a'.repeat(4 * n)}!`)],
  [
    'a file name: dots',
    (n) => over((name) => presentableFileName({ fileName: name, fileUrl: '' }), '.'.repeat(n)),
  ],
  [
    'a file name: parameters',
    (n) => over((name) => presentableFileName({ fileName: name, fileUrl: `?${name}` }), '&s=abc'.repeat(n)),
  ],
  // At most 1,000 recordings come through the border.
  ['keys of recordings of one name', (n) => over((list) => recordingKeys(list, SESSION), ofOneName(n / 20))],
];

function over<Input>(work: (input: Input) => unknown, input: Input): () => unknown {
  return () => work(input);
}

function members(count: number): Record<string, unknown> {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`member ${n}`, n]));
}

function ofOneName(count: number) {
  return Array.from({ length: count }, (_, n) => ({ fileName: 'a.wav', fileUrl: `https://x.kore.ai/${n}` }));
}

function recordings(count: number, fileName: string): string {
  return JSON.stringify({
    recording: Array.from({ length: count }, (_, n) => ({ fileName, fileUrl: `https://x.kore.ai/${n}` })),
  });
}

function readBody(body: string): unknown {
  return readNotification(parseJson(body), ['/sessionId', '/metaInfo/sessionId']);
}

function interpret(body: string): unknown {
  try {
    return interpretVoicemail(answer(body));
  } catch (error) {
    return error; // more than 1,000 recordings are refused, after all of them were read
  }
}

function readRowsOf(body: string): unknown {
  try {
    return callsListing('st-1').read(answer(body));
  } catch (error) {
    return error; // more rows than a page has are refused
  }
}

const SIZE = 2_500;

it.each(WORK)('%s: the work grows no faster than the input', (_name, prepare) => {
  assertLinear(prepare(SIZE), prepare(SIZE * TIMES_LARGER));
});

it('work that grows with the square of its input is noticed', () => {
  const trim = (text: string) => /\/+$/.exec(text);
  const prepare = (size: number) => over(trim, `${'/'.repeat(size)}a`);
  expect(() => assertLinear(prepare(1_000), prepare(1_000 * TIMES_LARGER))).toThrow(/16 times the input is/);
});

const archiveUrl = (text: string) => parseArchiveUrl(text, PLAIN_S3);

/** Reads what is refused in the end. */
function refused(parse: (text: string) => unknown): (text: string) => void {
  return (text) => {
    try {
      parse(text);
    } catch {
      return;
    }
    throw new Error('this was to be refused');
  };
}
