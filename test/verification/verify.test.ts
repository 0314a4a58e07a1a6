import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, chmod, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DeleteObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { SessionRef } from '../../src/domain/session.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { writeTombstone } from '../../src/storage/custody-records.ts';
import { serialize } from '../../src/storage/documents.ts';
import { BREAKER_PROBE_KEY, newProbeDirectory } from '../../src/storage/keys.ts';
import { manifestKey, partialManifestKey, sessionPrefix, tombstoneKey } from '../../src/storage/layout.ts';
import { openStore } from '../../src/storage/open.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { openCheckpoint } from '../../src/verification/checkpoint.ts';
import { type Finding, NO_TOTALS } from '../../src/verification/findings.ts';
import type { Scope } from '../../src/verification/scope.ts';
import { inOrder, verifyArchive } from '../../src/verification/verify.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { archiveDirectly, put, type StoredSession } from '../support/archived-sessions.ts';
import { wavOf } from '../support/audio.ts';
import { openTestBucket, PLAIN_S3, type TestBucket } from '../support/s3.ts';
import { type InjectedFault, type S3Proxy, type SeenRequest, startS3Proxy } from '../support/s3-proxy.ts';
import { temporaryDirectory } from '../support/services.ts';

const never = new AbortController().signal;
const ERASED = { state: 'erased', erasedAt: '2026-05-03T00:00:00.000Z' } as const;

let number = 0;
/** A session of a day in May 2026. */
function newSession(day: number, botId: string): SessionRef {
  number += 1;
  return { botId, sessionId: makeSessionId(new Date(Date.UTC(2026, 4, day) + number * 1000)) };
}

async function verify(store: ArchiveStore, scope: Scope, signal = never) {
  const findings: Finding[] = [];
  const onFinding = async (finding: Finding) => void findings.push(finding);
  const totals = await verifyArchive(scope, { store, concurrency: 4, settleMs: 0, onFinding }, signal);
  return { totals, findings };
}

/** What was found, without the words. */
const short = ({ kind, key, repairable }: Finding) =>
  `${kind} ${key}${repairable ? '' : ' (not to be fixed)'}`;

describe.each(ARCHIVE_KINDS)('the verification of an archive (%s)', (kind) => {
  let archive: TestArchive;
  let store: ArchiveStore;
  let remove: (key: string) => Promise<void>;

  beforeAll(async () => {
    archive = await openTestArchive(kind);
    ({ store } = archive);
    remove = remover(archive);
  });
  afterAll(() => archive.close());

  /** A bot of its own with one session, broken in some way. */
  async function findingsOf(spoil: (archived: StoredSession) => Promise<void>, isSessionAsked = false) {
    const session = newSession(3, `bot-${randomUUID()}`);
    const archived = await archiveDirectly(store, session);
    await spoil(archived);
    const scope: Scope = isSessionAsked
      ? { kind: 'sessions', sessions: [session] }
      : { kind: 'archive', botId: session.botId };
    const { findings } = await verify(store, scope);
    expect(findings.every(({ botId }) => botId === session.botId)).toBe(true);
    return { archived, findings, found: findings.map(short) };
  }

  const full = (key: string) => store.fullKey(key);

  async function spoiled(key: string, change: (bytes: Buffer) => Buffer): Promise<void> {
    await put(store, key, change((await store.read(key, never)) ?? Buffer.alloc(0)));
  }

  it('a verification finds nothing wrong in an intact archive, whatever the state of the transcripts', async () => {
    const botId = `clean-${randomUUID()}`;
    const sessions = [3, 3, 4].map((day) => newSession(day, botId));
    for (const [index, session] of sessions.entries()) {
      await archiveDirectly(store, session, { withTranscript: index > 0 });
    }
    await archiveDirectly(store, { botId, sessionId: 'no-object-id' });
    const { totals, findings } = await verify(store, { kind: 'archive', botId });
    expect(findings).toEqual([]);
    expect(totals).toMatchObject({ sessions: 4, objects: 15 });
    expect(totals.bytes).toBeGreaterThan(4 * 3_000);
  });

  it('a verification finds a flipped bit', async () => {
    const { archived, findings } = await findingsOf(({ recordingKeys: [one] }) => spoiled(one, flip));
    const [recording] = archived.manifest.recordings;
    expect(findings).toEqual([
      {
        kind: 'changed',
        key: full(archived.recordingKeys[0]),
        ...archived.session,
        what: expect.stringMatching(/^SHA-256 [0-9a-f]{64} instead of [0-9a-f]{64}$/),
        expected: { sha256: recording?.sha256 },
        found: { sha256: expect.not.stringMatching(recording?.sha256 ?? '') },
        repairable: true,
      },
    ]);
  });

  it('a verification finds a recording that was cut short, and one that was replaced', async () => {
    const { archived, findings } = await findingsOf(async ({ recordingKeys: [one, two] }) => {
      await spoiled(one, (bytes) => bytes.subarray(0, 2_000));
      await put(store, two, '<html>Not found</html>');
    });
    expect(findings).toMatchObject([
      {
        kind: 'changed',
        key: full(archived.recordingKeys[0]),
        expected: { bytes: 3_000 },
        found: { bytes: 2_000 },
      },
      {
        kind: 'changed',
        key: full(archived.recordingKeys[1]),
        expected: { container: 'flac' },
        found: { container: 'none', bytes: 22 },
      },
    ]);
  });

  it('a verification finds a manifest that gives another size or container', async () => {
    const { archived, findings } = await findingsOf(({ manifestKey: key }) =>
      spoiled(key, (bytes) =>
        Buffer.from(`${bytes}`.replace('"bytes":3000', '"bytes":3001').replace('"flac"}', '"wav"}')),
      ),
    );
    expect(findings).toMatchObject([
      {
        kind: 'changed',
        key: full(archived.recordingKeys[0]),
        expected: { bytes: 3_001 },
        found: { bytes: 3_000 },
      },
      {
        kind: 'changed',
        expected: { container: 'wav' },
        found: { container: 'flac' },
        what: 'container flac instead of wav',
      },
    ]);
  });

  it('a verification finds a changed and a missing transcript', async () => {
    const changed = await findingsOf(({ transcriptKey }) => spoiled(transcriptKey, flip));
    expect(changed.found).toEqual([`changed ${full(changed.archived.transcriptKey)}`]);
    const missing = await findingsOf(({ transcriptKey }) => remove(transcriptKey));
    expect(missing.found).toEqual([`missing ${full(missing.archived.transcriptKey)}`]);
  });

  it('a verification finds deleted recordings', async () => {
    const { archived, findings, found } = await findingsOf(async ({ recordingKeys }) => {
      for (const key of recordingKeys) await remove(key);
    });
    expect(found).toEqual(archived.recordingKeys.map((key) => `missing ${full(key)}`));
    const [recording] = archived.manifest.recordings;
    expect(findings[0]?.expected).toEqual({ bytes: 3_000, sha256: recording?.sha256 });
  });

  it('a verification finds what a deleted manifest leaves behind', async () => {
    const { archived, found } = await findingsOf(({ manifestKey: key }) => remove(key));
    const orphans = [...archived.recordingKeys, archived.transcriptKey].sort();
    expect(found).toEqual(orphans.map((key) => `orphaned ${full(key)}`));
  });

  describe('a partially archived session', () => {
    const missing = [
      { fileName: 'three.wav', code: 'RECORDING_EMPTY', message: 'no bytes', at: '2026-05-03T00:00:00.000Z' },
    ];
    const makePartial = async ({ session, manifest, manifestKey: key }: StoredSession) => {
      await remove(key);
      await put(store, partialManifestKey(session), serialize({ ...manifest, missing }));
    };

    it.each([true, false])(
      'a partially archived session is reported with what is missing, and nothing of it is orphaned (session named: %s)',
      async (isAsked) => {
        const { archived, findings } = await findingsOf(makePartial, isAsked);
        expect(findings).toEqual([
          {
            kind: 'partial',
            key: full(partialManifestKey(archived.session)),
            ...archived.session,
            what: 'not all of its recordings are saved: three.wav (RECORDING_EMPTY)',
            repairable: true,
          },
        ]);
      },
    );

    it('the saved recordings of a partially archived session are compared like any other', async () => {
      const { archived, found } = await findingsOf(async (one) => {
        await makePartial(one);
        await spoiled(one.recordingKeys[0], flip);
        await put(store, `${sessionPrefix(one.session)}other.wav`, 'x');
      });
      expect(found.sort()).toEqual([
        `changed ${full(archived.recordingKeys[0])}`,
        `orphaned ${full(`${sessionPrefix(archived.session)}other.wav`)} (not to be fixed)`,
        `partial ${full(partialManifestKey(archived.session))}`,
      ]);
    });

    it('a session is whole once it has a manifest, whatever lies beside that', async () => {
      const { found } = await findingsOf(async ({ session, manifest }) => {
        await put(store, partialManifestKey(session), serialize({ ...manifest, missing }));
        await put(store, `${sessionPrefix(session)}hold.json`, '{}');
      });
      expect(found).toEqual([]);
    });

    it('a partially archived session cannot be checked when its partial manifest is broken', async () => {
      const { archived, found } = await findingsOf(async ({ session, manifestKey: key }) => {
        await remove(key);
        await put(store, partialManifestKey(session), '{}');
      });
      expect(found).toEqual([`unreadable ${full(partialManifestKey(archived.session))}`]);
    });
  });

  it('a verification finds nothing missing of a session that was erased', async () => {
    const { found } = await findingsOf(
      async ({ session, recordingKeys, transcriptKey, manifestKey: key }) => {
        for (const one of [...recordingKeys, transcriptKey, key]) await remove(one);
        await writeTombstone({ ...session, ...ERASED }, store, never);
      },
      true,
    );
    expect(found).toEqual([]);
  });

  it('a verification finds what lies beside the record of an erasure, which archiving does not fix', async () => {
    const { archived, found } = await findingsOf(({ session }) =>
      writeTombstone({ ...session, ...ERASED }, store, never),
    );
    const { recordingKeys, transcriptKey, manifestKey: key } = archived;
    expect(found.sort()).toEqual(
      [key, ...recordingKeys, transcriptKey].map((one) => `orphaned ${full(one)} (not to be fixed)`).sort(),
    );
  });

  it('a verification finds an erasure that was not completed, and a record of one that cannot be read', async () => {
    const erasing = await findingsOf(async ({ session, recordingKeys, transcriptKey, manifestKey: key }) => {
      for (const one of [...recordingKeys, transcriptKey, key]) await remove(one);
      await writeTombstone({ ...session, ...ERASED, state: 'erasing' }, store, never);
    });
    expect(erasing.found).toEqual([
      `changed ${full(tombstoneKey(erasing.archived.session))} (not to be fixed)`,
    ]);
    const broken = await findingsOf(async ({ session, recordingKeys, transcriptKey, manifestKey: key }) => {
      for (const one of [...recordingKeys, transcriptKey, key]) await remove(one);
      await put(store, tombstoneKey(session), '{}');
    });
    expect(broken.found).toEqual([
      `unreadable ${full(tombstoneKey(broken.archived.session))} (not to be fixed)`,
    ]);
  });

  it('a verification counts recordings that were suspect when they were archived, which is no finding', async () => {
    const botId = `suspect-${randomUUID()}`;
    const { session, manifest } = await archiveDirectly(store, newSession(3, botId));
    const [first, second] = manifest.recordings;
    const integrity = { state: 'suspect' as const, notes: ['its header claims more'] };
    const recordings = first && second ? [{ ...first, integrity }, second] : [];
    await put(store, manifestKey(session), serialize({ ...manifest, recordings }));
    const { totals, findings } = await verify(store, { kind: 'archive', botId });
    expect(findings).toEqual([]);
    expect(totals).toMatchObject({ sessions: 1, suspect: 1 });
  });

  it('a verification finds a session given by id that is not archived', async () => {
    const deleted = await findingsOf(({ manifestKey: key }) => remove(key), true);
    expect(deleted.found[0]).toBe(`missing ${full(deleted.archived.manifestKey)}`);
    const session = newSession(3, `bot-${randomUUID()}`);
    const { totals, findings } = await verify(store, { kind: 'sessions', sessions: [session, session] });
    expect(findings.map(short)).toEqual([`missing ${full(manifestKey(session))}`]);
    expect(totals).toMatchObject({ sessions: 1, objects: 0, findings: { missing: 1, orphaned: 0 } });
  });

  it.each([
    ['no JSON', '{"schemaVersion":1,', 'it is not JSON'],
    ['of another shape', '{"schemaVersion":1,"recordings":7}', 'not as expected'],
    ['of a later version', '{"schemaVersion":2}', 'schemaVersion is 2'],
    ['empty', '', 'it is not JSON'],
  ])(
    'a verification finds a manifest that is %s, and calls nothing beside it orphaned',
    async (_, body, words) => {
      const { archived, findings, found } = await findingsOf(({ manifestKey: key }) => put(store, key, body));
      expect(found).toEqual([`unreadable ${full(archived.manifestKey)}`]);
      expect(findings[0]?.what).toContain(words);
    },
  );

  it('a verification finds foreign objects beside a session and below it', async () => {
    const { archived, found } = await findingsOf(async ({ session }) => {
      await put(store, `${sessionPrefix(session)}notes.txt`, 'x');
      await put(store, `${sessionPrefix(session)}more/notes.txt`, 'x');
    });
    expect(found).toEqual(
      ['more/notes.txt', 'notes.txt'].map(
        (name) => `orphaned ${full(`${sessionPrefix(archived.session)}${name}`)} (not to be fixed)`,
      ),
    );
  });

  it('a verification never reads what a manifest names outside of its own directory', async () => {
    const other = await archiveDirectly(store, newSession(3, `bot-${randomUUID()}`));
    const read: string[] = [];
    const watched: ArchiveStore = {
      ...store,
      scan: (key, onChunk, signal) => {
        read.push(key);
        return store.scan(key, onChunk, signal);
      },
    };
    const session = newSession(3, `bot-${randomUUID()}`);
    const own = await archiveDirectly(store, session, { withTranscript: false });
    const [one, two] = own.manifest.recordings;
    if (!one || !two) throw new Error('there are two');
    for (const key of [
      full(other.recordingKeys[0]),
      `${full(sessionPrefix(session).slice(0, -1))}/../../x`,
      '/etc/passwd',
      '',
    ]) {
      const manifest = { ...own.manifest, recordings: [one, { ...two, key }] };
      await put(store, own.manifestKey, JSON.stringify(manifest));
      const { findings } = await verify(watched, { kind: 'archive', botId: session.botId });
      expect(findings).toMatchObject([
        { kind: 'changed', key: full(own.manifestKey), found: { key }, repairable: true },
        { kind: 'orphaned', key: full(own.recordingKeys[1]) },
      ]);
    }
    expect(new Set(read)).toEqual(new Set([own.recordingKeys[0]]));
  });

  it('a verification finds a manifest of another session, and one in the directory of another date', async () => {
    const other = newSession(3, 'another-bot');
    const renamed = await findingsOf(({ manifest, manifestKey: key }) =>
      put(store, key, JSON.stringify({ ...manifest, ...other })),
    );
    expect(renamed.findings).toMatchObject([
      {
        kind: 'changed',
        key: full(renamed.archived.manifestKey),
        expected: renamed.archived.session,
        found: other,
      },
    ]);
    const moved = await findingsOf(async ({ manifest, manifestKey: key, session }) => {
      await put(store, key.replace('date=2026-05-03', 'date=2026-05-04'), JSON.stringify(manifest));
      expect(session.botId).toBe(manifest.botId);
    });
    expect(moved.findings).toMatchObject([
      {
        kind: 'changed',
        key: full(moved.archived.manifestKey.replace('05-03', '05-04')),
        expected: { key: full(moved.archived.manifestKey) },
        repairable: false,
      },
    ]);
  });

  it('a verification lists only the partitions that the dates need, and cuts the first and the last by the ids', async () => {
    const botId = `dates-${randomUUID()}`;
    const at = (text: string) => ({ botId, sessionId: makeSessionId(new Date(text)) });
    const before = at('2026-05-03T11:59:59Z');
    const first = at('2026-05-03T12:00:00Z');
    const last = at('2026-05-05T11:59:59Z');
    const after = at('2026-05-05T12:00:00Z');
    const far = [at('2026-05-02T12:00:00Z'), at('2026-05-06T00:00:00Z'), { botId, sessionId: 'undated-one' }];
    for (const session of [before, first, last, after, ...far])
      await put(store, `${sessionPrefix(session)}a`, 'x');
    await put(store, `bot_id=${botId}/foreign`, 'x');

    const listed: string[] = [];
    const watched: ArchiveStore = {
      ...store,
      list: (prefix, signal, options) => {
        listed.push(prefix);
        return store.list(prefix, signal, options);
      },
    };
    const range = async (from?: string, to?: string) => {
      listed.length = 0;
      const dates = { ...(from && { from: new Date(from) }), ...(to && { to: new Date(to) }) };
      const { findings } = await verify(watched, { kind: 'archive', botId, ...dates });
      return {
        dates: listed.flatMap((prefix) => /date=([^/]+)\/$/.exec(prefix)?.[1] ?? []),
        sessions: findings.map(({ sessionId }) => sessionId),
      };
    };
    expect(await range('2026-05-03T12:00:00Z', '2026-05-05T12:00:00Z')).toEqual({
      dates: ['2026-05-03', '2026-05-05'],
      sessions: [first.sessionId, last.sessionId],
    });
    expect(await range('2026-05-03', '2026-05-05')).toEqual({
      dates: ['2026-05-03'],
      sessions: [before.sessionId, first.sessionId],
    });
    expect(await range('2026-05-05T12:00:00Z')).toMatchObject({
      dates: ['2026-05-05', '2026-05-06'],
      sessions: [after.sessionId, far[1]?.sessionId],
    });
    const whole = await range();
    expect(whole.dates).toEqual(['2026-05-02', '2026-05-03', '2026-05-05', '2026-05-06', 'undated']);
    expect(whole.sessions).toHaveLength(8);
  });

  it('a verification drops a finding that is fixed or finished while it runs', async () => {
    const botId = `busy-${randomUUID()}`;
    const session = newSession(3, botId);
    const { manifest, manifestKey: key } = await archiveDirectly(store, session);
    await remove(key);
    let listings = 0;
    const watched: ArchiveStore = {
      ...store,
      async *list(prefix, signal, options) {
        listings += 1;
        // The worker writes the manifest after the verification has listed the session.
        if (listings === 2) await put(store, key, JSON.stringify(manifest));
        yield* store.list(prefix, signal, options);
      },
    };
    expect(await verify(watched, { kind: 'archive', botId })).toMatchObject({ findings: [] });
    expect(listings).toBe(2);
  });

  it('a verification holds a recording of any size only in parts', async () => {
    const big = wavOf(1_000_000);
    const seen: number[] = [];
    const botId = `big-${randomUUID()}`;
    const { recordingKeys } = await archiveDirectly(store, newSession(3, botId));
    await put(store, recordingKeys[1], big);
    const watched: ArchiveStore = {
      ...store,
      scan: (key, onChunk, signal) =>
        store.scan(
          key,
          (chunk) => {
            seen.push(chunk.length);
            onChunk(chunk);
          },
          signal,
        ),
    };
    await verify(watched, { kind: 'archive', botId });
    expect(Math.max(...seen)).toBeLessThan(big.length);
  });

  it('a verification stops when its signal is aborted', async () => {
    const stop = new AbortController();
    const botId = `stop-${randomUUID()}`;
    for (const day of [3, 4]) await archiveDirectly(store, newSession(day, botId));
    const watched: ArchiveStore = {
      ...store,
      scan: (key, onChunk, signal) => {
        stop.abort(new Error('enough'));
        return store.scan(key, onChunk, signal);
      },
    };
    await expect(verify(watched, { kind: 'archive', botId }, stop.signal)).rejects.toThrow('enough');
  });
});

describe.each(ARCHIVE_KINDS)('the verification of a whole archive (%s)', (kind) => {
  let archive: TestArchive;

  beforeAll(async () => {
    archive = await openTestArchive(kind);
  });
  afterAll(() => archive.close());

  it('a verification of everything finds foreign objects wherever they lie, and none of the archive', async () => {
    const { store } = archive;
    const session = newSession(3, 'st-1');
    await archiveDirectly(store, session);
    await archiveDirectly(store, { botId: 'st-2', sessionId: 'undated' });
    const foreign = [
      'bot_id=st-1/date=2026-02-30/x',
      'bot_id=st-1/date=2026-05-03/readme.txt',
      `bot_id=st-1/date=2026-05-03/session_id=bad id/manifest.json`,
      'bot_id=st-1/loose.txt',
      'bot_id=st-1/year=2026/x',
      'bot_id=st 2/date=2026-05-03/session_id=s/manifest.json',
      'loose.txt',
      'other/deep/down',
    ];
    for (const key of foreign) await put(store, key, 'x');
    // What `doctor` and workers write to find out whether they may, and records of the whole are not foreign.
    await put(store, `${newProbeDirectory()}object`, 'x');
    await put(store, BREAKER_PROBE_KEY, 'x');
    for (const name of ['audit', 'completeness', 'digests'])
      await put(store, `${name}/2026-05-03.json`, '{}');
    if (archive.target.kind === 'file') {
      const { directory } = archive.target;
      await mkdir(join(directory, '.tmp'), { recursive: true });
      await writeFile(join(directory, '.tmp', 'half'), 'x');
      // None of them is followed.
      const links = ['bot_id=linked', 'bot_id=st-1/date=2026-05-03/session_id=linked', 'bot_id=st-1/linked'];
      for (const link of links) await symlink('/etc', join(directory, link));
      foreign.push(...links);
    } else {
      // As consoles make them to show a folder.
      const { bucket, prefix } = archive.target;
      const client = s3Client(archive);
      for (const folder of ['', 'bot_id=st-1/', 'bot_id=st-1/date=2026-05-03/', sessionPrefix(session)]) {
        await client.send(
          new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${folder}`, Body: Buffer.alloc(0) }),
        );
      }
      client.destroy();
    }
    const { totals, findings } = await verify(store, { kind: 'archive' });
    expect(findings.map(({ kind: found, key }) => `${found} ${key}`).sort()).toEqual(
      foreign.map((key) => `orphaned ${store.fullKey(key)}`).sort(),
    );
    expect(findings.every(({ repairable }) => !repairable)).toBe(true);
    expect(totals).toMatchObject({ sessions: 2, objects: 8, findings: { orphaned: foreign.length } });
    // Sessions of one date are all that a verification of it reads.
    const dated = await verify(store, {
      kind: 'archive',
      from: new Date('2026-05-03'),
      to: new Date('2026-05-04'),
    });
    const ofDate = foreign.filter((key) => key.startsWith('bot_id=st-1/date=2026-05-03/'));
    expect(dated.totals).toMatchObject({ sessions: 1, findings: { orphaned: ofDate.length } });
  });
});

describe('an object that cannot be read', () => {
  it('what cannot be read is reported, and the rest of the directory is verified', async () => {
    const archive = await openTestArchive('file');
    onTestFinished(() => archive.close());
    if (archive.target.kind !== 'file') throw new Error('a directory was asked for');
    const { directory } = archive.target;
    const { store } = archive;
    const make = () => archiveDirectly(store, newSession(3, 'st-1'), { withTranscript: false });
    const [closed, linked, denied, manifestDenied, fine] = [
      await make(),
      await make(),
      await make(),
      await make(),
      await make(),
    ];
    await put(store, 'bot_id=st-2/date=2026-05-03/x', 'x');
    await rm(join(directory, linked.recordingKeys[0]));
    await symlink('/etc/hostname', join(directory, linked.recordingKeys[0]));
    await rm(join(directory, linked.recordingKeys[1]));
    await mkdir(join(directory, linked.recordingKeys[1]));
    const shut = [
      sessionPrefix(closed.session),
      denied.recordingKeys[0],
      manifestDenied.manifestKey,
      'bot_id=st-2/',
    ];
    await allowAll(join(directory, '..'));
    for (const key of shut) await chmod(join(directory, key), 0);
    const { totals, findings } = await asNobody(() => verify(store, { kind: 'archive' }));
    const further = await asNobody(() => listed(store, 'bot_id=st-1/date=2026-05-03/', shut[0]));
    await allowAll(join(directory, '..'));

    expect(findings.map(short).sort()).toEqual(
      [...shut, ...linked.recordingKeys].map((key) => `unreadable ${key} (not to be fixed)`).sort(),
    );
    expect(findings.find(({ key }) => key === shut[0])).toMatchObject(closed.session);
    expect(further).not.toContain(shut[0]);
    expect(totals.sessions).toBe(4);
    // Manifests of three, recordings of one and a half.
    expect(totals.objects).toBe(6);
    expect((await verify(store, { kind: 'sessions', sessions: [fine.session] })).findings).toEqual([]);
  });

  it('a pipe in the place of a recording is reported, without waiting for its other end', async () => {
    const archive = await openTestArchive('file');
    onTestFinished(() => archive.close());
    if (archive.target.kind !== 'file') throw new Error('a directory was asked for');
    const { directory } = archive.target;
    const { recordingKeys, session } = await archiveDirectly(archive.store, newSession(3, 'st-1'));
    await rm(join(directory, recordingKeys[0]));
    execFileSync('mkfifo', [recordingKeys[0], `${sessionPrefix(session)}pipe`], { cwd: directory });
    const { findings } = await verify(archive.store, { kind: 'archive' });
    expect(findings.map(short)).toEqual([
      `unreadable ${recordingKeys[0]} (not to be fixed)`,
      `orphaned ${sessionPrefix(session)}pipe (not to be fixed)`,
    ]);
  });

  describe('an object in a bucket', () => {
    let server: TestBucket;
    let decide: (request: SeenRequest) => InjectedFault | undefined;
    let proxy: S3Proxy;
    let store: ArchiveStore;

    beforeAll(async () => {
      server = await openTestBucket();
      proxy = await startS3Proxy(server.endpoint, (request) => decide(request));
      const { region, credentials, bucket } = server;
      store = await openStore(
        { kind: 's3', bucket, prefix: '', s3: PLAIN_S3 },
        { connection: { endpoint: proxy.endpoint, region, credentials, maxAttempts: 1 } },
      );
    });
    beforeEach(() => {
      decide = () => undefined;
    });
    afterAll(async () => {
      await store.close();
      await proxy.close();
      await server.close();
    });

    const isOf = (key: string) => (request: SeenRequest) =>
      request.stage === 'get' && decodeURIComponent(request.path).endsWith(key);

    it('an object in a bucket that cannot be read is reported as something that a permission or a restore fixes', async () => {
      const botId = `denied-${randomUUID()}`;
      const { recordingKeys } = await archiveDirectly(store, newSession(3, botId));
      const isDenied = isOf(recordingKeys[0]);
      decide = (request) => (isDenied(request) ? { status: 403, code: 'AccessDenied' } : undefined);
      const { findings } = await verify(store, { kind: 'archive', botId });
      expect(findings.map(short)).toEqual([`unreadable ${recordingKeys[0]} (not to be fixed)`]);
    });

    it('an object in a bucket that cannot be read is tried again before it is reported', async () => {
      const botId = `flaky-${randomUUID()}`;
      const { recordingKeys, manifestKey: manifest } = await archiveDirectly(store, newSession(3, botId));
      let faults = 0;
      const fault = (): InjectedFault => {
        faults += 1;
        return { status: 503, code: 'ServiceUnavailable' };
      };
      const isFlaky = [isOf(recordingKeys[0]), isOf(manifest)];
      decide = (request) => (isFlaky.some((is) => is(request)) && faults < 2 ? fault() : undefined);
      expect(await verify(store, { kind: 'archive', botId })).toMatchObject({ findings: [] });
      expect(faults).toBe(2);
    });

    it('a verification of a bucket of which nothing can be read ends with an error, not with a finding', async () => {
      const botId = `away-${randomUUID()}`;
      await archiveDirectly(store, newSession(3, botId));
      decide = ({ stage }) => (stage === 'get' ? { status: 403, code: 'ExpiredToken' } : undefined);
      await expect(verify(store, { kind: 'archive', botId })).rejects.toMatchObject({
        code: 'ARCHIVE_DENIED',
      });
    });
  });
});

describe.each(ARCHIVE_KINDS)('a verification with a checkpoint (%s)', (kind) => {
  let archive: TestArchive;
  let store: ArchiveStore;
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

  beforeAll(async () => {
    [archive, directory] = await Promise.all([openTestArchive(kind), temporaryDirectory()]);
    ({ store } = archive);
  });
  afterAll(() => Promise.all([archive.close(), directory.remove()]));

  const newFile = () => join(directory.path, randomUUID());

  /** Verifies until it has found so much, or to the end. */
  async function runUntil(found: number, path: string, scope: Scope) {
    const checkpoint = await openCheckpoint(path, store.location, scope);
    const stop = new AbortController();
    const findings: Finding[] = [];
    const onFinding = async (finding: Finding) => {
      findings.push(finding);
    };
    const onProgress = () => {
      if (findings.length >= found) stop.abort(new Error('interrupted'));
    };
    const read: string[] = [];
    const watched: ArchiveStore = {
      ...store,
      scan: (key, onChunk, signal) => {
        read.push(key);
        return store.scan(key, onChunk, signal);
      },
    };
    try {
      const deps = { store: watched, concurrency: 1, settleMs: 0, checkpoint, onFinding, onProgress };
      const totals = await verifyArchive(scope, deps, stop.signal);
      return { findings, totals, read };
    } catch (error) {
      expect(error).toMatchObject({ message: 'interrupted' });
      return { findings, totals: undefined, read };
    } finally {
      await checkpoint.close();
    }
  }

  it('a verification with a checkpoint continues wherever it was interrupted, and reports everything in the end', async () => {
    const remove = remover(archive);
    for (const day of [3, 3, 3, 4, 4]) {
      const { recordingKeys } = await archiveDirectly(store, newSession(day, 'st-1'), {
        withTranscript: false,
      });
      await remove(recordingKeys[1]);
    }
    await put(store, 'bot_id=st-1/date=2026-05-03/foreign', 'x');
    await put(store, 'bot_id=st-1/foreign', 'x');
    await put(store, 'foreign', 'x');
    const scope: Scope = { kind: 'archive' };
    const whole = await runUntil(Number.POSITIVE_INFINITY, newFile(), scope);
    expect(whole.totals).toMatchObject({ sessions: 5, findings: { missing: 5, orphaned: 3 } });
    for (let found = 1; found <= 8; found += 1) {
      const path = newFile();
      const first = await runUntil(found, path, scope);
      // What was looked at when the end came still counts.
      expect(first.findings).toEqual(whole.findings.slice(0, first.findings.length));
      if (found === 1) expect(first.totals).toBeUndefined();
      // A process that is killed while it writes leaves half a line.
      await appendFile(path, '{"findings":[{"kind":"changed"');
      const second = await runUntil(Number.POSITIVE_INFINITY, path, scope);
      expect(second.findings).toEqual(whole.findings);
      expect(second.totals).toEqual(whole.totals);
      // What was reported before is not read again.
      const reported = first.findings.flatMap(({ sessionId }) => sessionId ?? []);
      expect(second.read.filter((key) => reported.some((id) => key.includes(id)))).toEqual([]);
    }
  });

  it('a verification with a checkpoint continues with single sessions, too', async () => {
    const sessions = [3, 4, 5].map((day) => newSession(day, 'st-1'));
    const scope: Scope = { kind: 'sessions', sessions };
    const path = newFile();
    expect(await runUntil(1, path, scope)).toMatchObject({ totals: undefined });
    const second = await runUntil(Number.POSITIVE_INFINITY, path, scope);
    expect(second.findings.map(({ sessionId }) => sessionId)).toEqual(
      sessions.map(({ sessionId }) => sessionId),
    );
  });

  it('a verification refuses the checkpoint of another one, and any other file, and leaves it as it is', async () => {
    const path = newFile();
    const scope: Scope = { kind: 'archive', from: new Date('2026-05-01') };
    await (await openCheckpoint(path, store.location, scope)).close();
    const before = await readFile(path, 'utf8');
    await expect(openCheckpoint(path, store.location, { kind: 'archive' })).rejects.toThrow(
      'other sessions or dates',
    );
    await expect(openCheckpoint(path, 's3://other', scope)).rejects.toThrow(
      `belongs to a verification of ${store.location}`,
    );
    expect(await readFile(path, 'utf8')).toBe(before);
    for (const other of ['my notes', 'my notes\n', '{"verify":3}\n', '\n']) {
      await writeFile(path, other);
      await expect(openCheckpoint(path, store.location, scope)).rejects.toThrow('is no checkpoint');
      expect(await readFile(path, 'utf8')).toBe(other);
    }
    await writeFile(path, '');
    await (await openCheckpoint(path, store.location, scope)).close();
    await expect(openCheckpoint('/dev/null', store.location, scope)).rejects.toThrow('/dev/null is no file');
  });

  it('a verification stops when another process continues its checkpoint, and that one comes to its end', async () => {
    const path = newFile();
    const scope: Scope = { kind: 'archive' };
    const [one, other] = [
      await openCheckpoint(path, store.location, scope),
      await openCheckpoint(path, store.location, scope),
    ];
    const finding: Finding = { kind: 'missing', key: 'a', what: 'x', repairable: false };
    await one.add([finding], { unit: 'a' }, NO_TOTALS);
    await expect(other.add([finding], { unit: 'a' }, NO_TOTALS)).rejects.toThrow('another process writes');
    await one.add([finding], { unit: 'b' }, NO_TOTALS);
    await Promise.all([one.close(), other.close()]);
    const next = await openCheckpoint(path, store.location, scope);
    const findings: Finding[] = [];
    for await (const found of next.findings()) findings.push(found);
    expect(findings).toHaveLength(2);
    await next.close();
  });
});

describe('working in order', () => {
  const items = async function* (count: number) {
    for (let item = 0; item < count; item += 1) yield item;
  };

  it('working in order runs a limited number of tasks at a time, and yields results in order', async () => {
    const begun = Array.from({ length: 6 }, () => Promise.withResolvers<void>());
    let active = 0;
    let most = 0;
    const work = async (item: number) => {
      active += 1;
      most = Math.max(most, active);
      begun[item]?.resolve();
      // Of each pair, the first one ends after the second one has begun.
      if (item % 2 === 0) await begun[item + 1]?.promise;
      active -= 1;
      return item;
    };
    const results: number[] = [];
    for await (const result of inOrder(items(6), work, 2, never)) results.push(result);
    expect(results).toEqual([0, 1, 2, 3, 4, 5]);
    expect(most).toBe(2);
  });

  it('working in order yields what is done while a later task takes long', async () => {
    const results = inOrder(
      items(3),
      (item, signal) => (item === 2 ? once(signal, 'abort').then(() => item) : Promise.resolve(item)),
      1,
      never,
    );
    expect((await results.next()).value).toBe(0);
    expect((await results.next()).value).toBe(1);
    await results.return(undefined);
  });

  it('working in order ends with the first error, and waits for all tasks that it started', async () => {
    let ended = 0;
    const work = async (item: number, signal: AbortSignal) => {
      if (item === 0) throw new Error('broken');
      await once(signal, 'abort');
      ended += 1;
      return item;
    };
    await expect(inOrder(items(3), work, 3, never).next()).rejects.toThrow('broken');
    expect(ended).toBe(2);
  });
});

/** What a listing comes upon behind a key, whether it can be looked at or not. */
async function listed(store: ArchiveStore, prefix: string, after: string | undefined): Promise<string[]> {
  const keys: string[] = [];
  const options = {
    ...(after !== undefined && { after }),
    onUnreadable: (key: string) => void keys.push(key),
  };
  for await (const { key } of store.list(prefix, never, options)) keys.push(key);
  return keys;
}

/** Runs something without the rights of root, should the tests have them. */
async function asNobody<Result>(run: () => Promise<Result>): Promise<Result> {
  if (process.getuid?.() !== 0) return run();
  process.seteuid?.(65_534);
  try {
    return await run();
  } finally {
    process.seteuid?.(0);
  }
}

/** Lets everybody read a directory and all below it. */
async function allowAll(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await allowAll(path);
    else if (entry.isFile()) await chmod(path, 0o644);
  }
}

function flip(bytes: Buffer): Buffer {
  const flipped = Buffer.from(bytes);
  const middle = flipped.length >> 1;
  flipped[middle] = (flipped[middle] ?? 0) ^ 1;
  return flipped;
}

function s3Client({ options: { connection } }: TestArchive): S3Client {
  return new S3Client({ ...connection, forcePathStyle: true });
}

/** Removes objects directly, as the archive never does. */
function remover(archive: TestArchive): (key: string) => Promise<void> {
  const { target, store } = archive;
  if (target.kind === 'file') return (key) => rm(join(target.directory, key));
  const client = s3Client(archive);
  return async (key) => {
    await client.send(new DeleteObjectCommand({ Bucket: target.bucket, Key: store.fullKey(key) }));
  };
}
