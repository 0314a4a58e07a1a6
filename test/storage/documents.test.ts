import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { TransferredRecording } from '../../src/domain/recording.ts';
import type { KoreDocument } from '../../src/domain/voicemail.ts';
import {
  buildManifest,
  buildManifestRecording,
  buildTranscript,
  type ManifestRecording,
  nextRevision,
  parseManifest,
  parsePartialManifest,
  parseTranscript,
  revisionOf,
  serialize,
} from '../../src/storage/documents.ts';
import { parseJson } from '../../src/util/json.ts';

const SESSION = { botId: 'st-1', sessionId: '67ab573f3685d1ba99540000' };
const VERSION: unknown = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
).version;

const message = (extra: Record<string, unknown>): KoreDocument => ({
  _id: 'ms-1',
  components: [{ cT: 'text', data: { text: 'Hello.' } }],
  createdOn: '2025-02-11T13:57:42.032Z',
  lang: 'en',
  author: { id: 'u-1', type: 'VOICEMAIL' },
  ...extra,
});

describe('a transcript', () => {
  test('a transcript has each message, their text together, and the documents as received', () => {
    const documents = [message({ unknown: { kept: [1] } }), message({ _id: 'ms-2', lang: 'de' })];
    expect(buildTranscript(SESSION, documents)).toEqual({
      schemaVersion: 1,
      sessionId: SESSION.sessionId,
      botId: 'st-1',
      language: 'en',
      text: 'Hello.\nHello.',
      messages: [
        {
          id: 'ms-1',
          text: 'Hello.',
          language: 'en',
          createdAt: '2025-02-11T13:57:42.032Z',
          authorId: 'u-1',
          authorType: 'VOICEMAIL',
        },
        {
          id: 'ms-2',
          text: 'Hello.',
          language: 'de',
          createdAt: '2025-02-11T13:57:42.032Z',
          authorId: 'u-1',
          authorType: 'VOICEMAIL',
        },
      ],
      source: documents,
    });
  });

  test('a transcript joins the text components of a message and skips all others', () => {
    const components = [
      { cT: 'text', data: { text: 'one' } },
      { cT: 'image', data: { text: 'no' } },
      { cT: 'text' },
      null,
      'x',
      { cT: 'text', data: { text: 7 } },
      { cT: 'text', data: { text: 'two' } },
    ];
    const { messages, text } = buildTranscript(SESSION, [message({ components })]);
    expect(messages[0]?.text).toBe('one\ntwo');
    expect(text).toBe('one\ntwo');
  });

  test('a transcript has null for what is missing', () => {
    const transcript = buildTranscript(SESSION, [{}, message({ components: 'x', author: null, lang: 1 })]);
    expect(transcript.language).toBeNull();
    expect(transcript.text).toBe('');
    expect(transcript.messages).toEqual([
      { id: null, text: null, language: null, createdAt: null, authorId: null, authorType: null },
      {
        id: 'ms-1',
        text: null,
        language: null,
        createdAt: '2025-02-11T13:57:42.032Z',
        authorId: null,
        authorType: null,
      },
    ]);
  });

  test('a transcript keeps whatever Kore lists as a message, and its text where there is any', () => {
    const { messages, text, source } = buildTranscript(SESSION, [
      'spoken',
      null,
      7,
      [message({})],
      message({}),
    ]);
    expect(messages.map((one) => one.text)).toEqual(['spoken', null, null, 'Hello.', 'Hello.']);
    expect(text).toBe('spoken\nHello.\nHello.');
    expect(source).toEqual(['spoken', null, 7, [message({})], message({})]);
  });

  test('a transcript keeps numbers digit for digit, also when it is read back', () => {
    const source = '[{"_id":"ms-1","at":9007199254740993,"ratio":0.12345678901234567891}]';
    const bytes = serialize(buildTranscript(SESSION, parseJson(source) as unknown[]));
    expect(bytes.toString()).toContain(`"source":${source}`);
    expect(serialize(parseTranscript(bytes, 'k'))).toEqual(bytes);
  });

  test('a transcript nested 5,000 deep is kept, with its innermost levels as text', () => {
    const deep = `${'{"a":['.repeat(2_500)}1${']}'.repeat(2_500)}`;
    const bytes = serialize(buildTranscript(SESSION, [parseJson(deep)]));
    expect(bytes.toString().replaceAll('\\"', '"')).toContain('{"a":['.repeat(2_400));
    expect(parseTranscript(bytes, 'k').messages).toHaveLength(1);
  });

  test('a transcript of any documents is read back as it was', () => {
    fc.assert(
      fc.property(
        fc.array(fc.dictionary(fc.oneof(fc.string(), fc.constant('__proto__')), fc.jsonValue())),
        (documents) => {
          const bytes = serialize(buildTranscript(SESSION, documents));
          expect(serialize(parseTranscript(bytes, 'k'))).toEqual(bytes);
          // Line by line is how Spark and Athena read it.
          expect(bytes.indexOf('\n')).toBe(bytes.length - 1);
        },
      ),
    );
  });
});

describe('a manifest', () => {
  const fileUrl = 'https://media.example/x/f.wav?e=1739359482&n=3&s=SECRETSIGNATURE';
  const transferred: TransferredRecording = {
    integrity: { state: 'verified', notes: [] },
    bytes: 44,
    sha256: 'a'.repeat(64),
    contentType: 'audio/wav',
    audio: { container: 'wav', codec: 'pcm_s16le', sampleRate: 8000, channels: 1, durationSeconds: 0 },
    source: { host: 'media.example', path: '/x/f.wav', expiresAt: '2025-02-12T11:24:42.000Z' },
    downloadedAt: '2025-02-11T14:00:00.000Z',
    secondsToExpiry: 5,
    urlRefreshes: 1,
    resumes: 2,
  };
  const archivedAt = new Date('2025-02-11T14:00:01Z');
  const build = (recordings: ManifestRecording[]) =>
    buildManifest({ session: SESSION, archivedAt, recordings, transcript: { state: 'pending' } });

  test('a manifest has just the fields of the contract', () => {
    const recording = buildManifestRecording('p/f.wav', { fileName: 'f.wav', fileUrl }, transferred);
    const manifest = buildManifest({
      session: SESSION,
      archivedAt,
      recordings: [recording],
      transcript: {
        state: 'archived',
        key: 'p/transcript.json',
        bytes: 9,
        sha256: 'b'.repeat(64),
        messages: 1,
      },
    });
    expect(JSON.parse(serialize(manifest).toString())).toEqual({
      schemaVersion: 1,
      sessionId: SESSION.sessionId,
      botId: 'st-1',
      archivedAt: '2025-02-11T14:00:01.000Z',
      recordings: [
        {
          key: 'p/f.wav',
          fileName: 'f.wav',
          bytes: 44,
          sha256: 'a'.repeat(64),
          contentType: 'audio/wav',
          audio: { container: 'wav', codec: 'pcm_s16le', sampleRate: 8000, channels: 1, durationSeconds: 0 },
          integrity: { state: 'verified', notes: [] },
          source: { host: 'media.example', path: '/x/f.wav', expiresAt: '2025-02-12T11:24:42.000Z' },
          downloadedAt: '2025-02-11T14:00:00.000Z',
        },
      ],
      transcript: {
        state: 'archived',
        key: 'p/transcript.json',
        bytes: 9,
        sha256: 'b'.repeat(64),
        messages: 1,
      },
      revision: 1,
      archiver: { version: VERSION },
    });
  });

  test('a manifest is written again as the next revision, with all unknown fields and without the old signature', () => {
    const recording = buildManifestRecording('p/f.wav', { fileName: 'f.wav', fileUrl }, transferred);
    const { revision: _revision, ...old } = build([recording]);
    const { integrity: _integrity, ...oldRecording } = recording;
    const received = {
      ...old,
      recordings: [{ ...oldRecording, unknown: 1 }],
      call: { from: '+1', meta: { __proto__: null, deep: [1] } },
      signature: 'c2ln',
      unknown: true,
      archiver: { version: '0.1.0', host: 'a' },
    };
    const before = parseManifest(Buffer.from(JSON.stringify(received)), 'k');
    expect(revisionOf(before)).toBe(1);
    const next = nextRevision(before, { ...before, transcript: { state: 'absent' } });
    // A signature is no longer one of what it signed.
    const { signature: _signature, ...kept } = JSON.parse(JSON.stringify(received));
    expect(JSON.parse(serialize(next).toString())).toEqual({
      ...kept,
      transcript: { state: 'absent' },
      revision: 2,
      archiver: { version: VERSION, host: 'a' },
    });
    expect(revisionOf(next)).toBe(2);
  });

  test('a partial manifest says what is missing, and is invalid without that', () => {
    const missing = [{ fileName: 'b.wav', code: 'RECORDING_EMPTY', message: 'no bytes', at: '2026-01-01' }];
    const bytes = serialize({ ...build([]), missing });
    expect(parsePartialManifest(bytes, 'k').missing).toEqual(missing);
    expect(() => parsePartialManifest(serialize(build([])), 'k')).toThrow(/partial manifest at k .*missing/);
  });

  test('a manifest leaves out what is not known', () => {
    const { audio: _audio, source: _source, ...rest } = transferred;
    const bare = buildManifestRecording(
      'p/f',
      { fileName: 'f', fileUrl },
      { ...rest, source: { host: 'media.example', path: '/x/f.wav' } },
    );
    expect(bare).not.toHaveProperty('audio');
    expect(bare.source).toEqual({ host: 'media.example', path: '/x/f.wav' });
    const partly = buildManifestRecording(
      'p/f',
      { fileName: 'f', fileUrl },
      { ...transferred, audio: { container: 'ogg' } },
    );
    expect(Object.keys(partly.audio ?? {})).toEqual(['container']);
  });

  test('a manifest never holds the query of a URL', () => {
    const source = { host: 'media.example', path: '/x/f.wav?e=1&s=SECRETSIGNATURE' };
    const recording = buildManifestRecording(
      'p/f',
      { fileName: fileUrl, fileUrl },
      { ...transferred, source },
    );
    expect(serialize(build([recording])).toString()).not.toMatch(/SECRET|[?]/);
  });

  test('a manifest is the same text for the same content, one line and its end', () => {
    const text = serialize(build([])).toString();
    expect(text).toBe(serialize(build([])).toString());
    expect(text).toMatch(/^\{"schemaVersion":1,.*\}\n$/);
  });

  test('a manifest is read back with fields that it does not know', () => {
    const later = { ...build([]), note: 'from a later version', archiver: { version: '9.9.9', build: 'x' } };
    const bytes = serialize(later);
    expect(parseManifest(bytes, 'k')).toEqual(later);
    expect(serialize(parseManifest(bytes, 'k'))).toEqual(bytes);
  });

  test.for([
    ['', /not JSON/],
    ['{"schemaVersion": 1, "text": "very private', /not JSON/],
    ['[]', /not as expected/],
    ['null', /not as expected/],
    ['{}', /not as expected.*schemaVersion/],
    ['{"schemaVersion": 2}', /schemaVersion is 2/],
    ['{"schemaVersion": 1, "sessionId": 5, "recordings": []}', /not as expected.*sessionId/],
  ] as const)('an invalid manifest (%s) is a conflict with a clear message', ([text, words]) => {
    const read = () => parseManifest(Buffer.from(text), 'the/key');
    expect(read).toThrow(expect.objectContaining({ code: 'ARCHIVE_CONFLICT' }));
    expect(read).toThrow(words);
    expect(read).toThrow('the/key');
    expect(read).not.toThrow('private');
  });
});
