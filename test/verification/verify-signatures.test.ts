import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { SessionRef } from '../../src/domain/session.ts';
import { digestKey, parseDigest, sealDigest } from '../../src/signing/digest.ts';
import { readPublicKeys, type SigningKey, signDocument } from '../../src/signing/signatures.ts';
import { buildManifest, serialize } from '../../src/storage/documents.ts';
import { manifestKey, sessionPrefix } from '../../src/storage/layout.ts';
import { readDigestChain } from '../../src/verification/digest-chain.ts';
import type { Finding } from '../../src/verification/findings.ts';
import type { Scope } from '../../src/verification/scope.ts';
import { verifySignatures } from '../../src/verification/verify-signatures.ts';
import { temporaryDirectory } from '../support/services.ts';
import { newSigningKey, SignedArchive } from '../support/signed-archive.ts';

const never = new AbortController().signal;
const ALL: Scope = { kind: 'archive' };
const OTHER_KEY = newSigningKey();

/** A time in June 2026 (UTC). */
const june = (day: number, hour = 12, minute = 0) => new Date(Date.UTC(2026, 5, day, hour, minute));

function access(archive: SignedArchive, keys: readonly SigningKey[] = [archive.key]) {
  return { store: archive.plain, keys: readPublicKeys(keys.map(({ publicKey }) => publicKey)) };
}

async function verify(
  archive: SignedArchive,
  {
    scope = ALL,
    keys = [archive.key],
    now = june(5),
  }: { scope?: Scope; keys?: SigningKey[]; now?: Date } = {},
) {
  const findings: Finding[] = [];
  const span = await verifySignatures(
    scope,
    {
      ...access(archive, keys),
      concurrency: 8,
      now: () => now,
      onFinding: async (finding) => void findings.push(finding),
    },
    never,
  );
  return { span, findings, found: findings.map(({ kind, key }) => `${kind} ${key}`).sort() };
}

/** Each bit of it is another character, and JSON or not. */
function withOneByteChanged(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed;
}

describe('a signed archive of three days and three digests', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
  let archive: SignedArchive;
  let sessions: SessionRef[];
  let revised: SessionRef;
  let earlierRevision: Buffer;
  let erased: SessionRef;
  let erasedManifest: Buffer;
  const restore: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    directory = await temporaryDirectory();
    archive = new SignedArchive(directory.path);
    const archiveMany = (count: number, at: Date) =>
      Promise.all(Array.from({ length: count }, () => archive.archive(at)));
    const first = await archiveMany(71, june(1));
    expect(await archive.digest(june(2, 0, 15))).toMatchObject({
      written: [{ date: '2026-06-01', entries: 71 }],
      refused: 0,
    });
    const second = await archiveMany(20, june(2));
    [erased, revised] = [first[0] as SessionRef, first[1] as SessionRef];
    erasedManifest = await archive.read(manifestKey(erased));
    earlierRevision = await archive.read(manifestKey(revised));
    await archive.erase(erased, june(2));
    await archive.revise(revised, june(2));
    expect(await archive.digest(june(3, 0, 15))).toMatchObject({
      written: [{ date: '2026-06-02', entries: 22 }],
      refused: 0,
    });
    const third = await archiveMany(10, june(3));
    await archive.digest(june(4, 0, 15));
    sessions = [...first.slice(1), ...second, ...third];
    expect(sessions).toHaveLength(100);
  });
  afterEach(async () => {
    for (const back of restore.splice(0).reverse()) await back();
  });
  afterAll(async () => {
    // Each test has put back what it changed.
    expect((await verify(archive)).found).toEqual([]);
    await directory.remove();
  });

  /** Writes something past the archiver, until the test is over. */
  async function spoil(key: string, bytes: Buffer | undefined): Promise<void> {
    const before = await archive.plain.read(key, never);
    restore.push(async () => {
      if (before) await archive.put(key, before);
      else await archive.remove(key);
    });
    if (bytes) await archive.put(key, bytes);
    else await archive.remove(key);
  }

  const some = (at: number) => sessions[at] as SessionRef;
  const full = (key: string) => archive.plain.fullKey(key);

  it('verify finds nothing wrong in an intact signed archive, whichever part of it is checked', async () => {
    expect(await verify(archive)).toEqual({
      span: { count: 3, from: '2026-06-01', to: '2026-06-03' },
      findings: [],
      found: [],
    });
    const scopes: Scope[] = [
      { kind: 'sessions', sessions: [some(4), erased, revised] },
      { kind: 'archive', from: june(2, 0), to: june(3, 0) },
      { kind: 'archive', botId: 'another-bot' },
    ];
    for (const scope of scopes) expect((await verify(archive, { scope })).found).toEqual([]);
  });

  it('verify names every session that was removed, a whole removed day included', async () => {
    for (const session of [some(5), some(60), some(95)]) {
      for (const name of ['manifest.json', 'one.bin'])
        await spoil(`${sessionPrefix(session)}${name}`, undefined);
    }
    const removed = [some(5), some(60), some(95)].map((session) => `missing ${full(manifestKey(session))}`);
    expect((await verify(archive)).found).toEqual(removed.sort());
    const day = sessions.slice(70, 90);
    for (const session of day) await spoil(manifestKey(session), undefined);
    const all = [...removed, ...day.map((session) => `missing ${full(manifestKey(session))}`)];
    expect((await verify(archive)).found).toEqual([...new Set(all)].sort());
  });

  it('verify accepts the record of an erasure only if it is signed and names that session', async () => {
    const key = `${sessionPrefix(some(7))}tombstone.json`;
    const record = { ...some(7), schemaVersion: 1, state: 'erased', erasedAt: june(3).toISOString() };
    await spoil(manifestKey(some(7)), undefined);
    await spoil(key, Buffer.from(`${JSON.stringify(record)}\n`));
    const missing = [`missing ${full(manifestKey(some(7)))}`];
    expect((await verify(archive)).found).toEqual(missing);
    await spoil(key, await archive.read(`${sessionPrefix(erased)}tombstone.json`));
    expect((await verify(archive)).found).toEqual(missing);
    await spoil(key, signDocument(Buffer.from(JSON.stringify(record)), archive.key));
    expect((await verify(archive)).found).toEqual([]);
  });

  it('verify names the record of an erasure that was removed', async () => {
    await spoil(`${sessionPrefix(erased)}tombstone.json`, undefined);
    expect((await verify(archive)).found).toEqual([`missing ${full(manifestKey(erased))}`]);
  });

  it('verify names a manifest without a signature, and one that another key signed', async () => {
    const { signature: _, ...unsigned } = JSON.parse((await archive.read(manifestKey(some(8)))).toString());
    await spoil(manifestKey(some(8)), Buffer.from(`${JSON.stringify(unsigned)}\n`));
    await spoil(manifestKey(some(9)), signDocument(Buffer.from(JSON.stringify(unsigned)), OTHER_KEY));
    const added = archive.newSession(june(3));
    await spoil(manifestKey(added), signDocument(Buffer.from(JSON.stringify(unsigned)), OTHER_KEY));
    expect((await verify(archive)).found).toEqual(
      [
        `changed ${full(manifestKey(some(8)))}`,
        `changed ${full(manifestKey(some(9)))}`,
        `forged ${full(manifestKey(added))}`,
      ].sort(),
    );
  });

  it('verify names an earlier revision, and an erased session, that were put back as they were signed', async () => {
    await spoil(manifestKey(revised), earlierRevision);
    await spoil(manifestKey(erased), erasedManifest);
    expect((await verify(archive)).found).toEqual(
      [`changed ${full(manifestKey(revised))}`, `unlisted ${full(manifestKey(erased))}`].sort(),
    );
  });

  it('verify names a signed session that was slipped in, and the next digest leaves it out', async () => {
    const session = archive.newSession(june(1));
    const manifest = buildManifest({
      session,
      archivedAt: june(1),
      recordings: [],
      transcript: { state: 'absent' },
    });
    await spoil(manifestKey(session), signDocument(serialize(manifest), archive.key));
    const unlisted = [`unlisted ${full(manifestKey(session))}`];
    expect((await verify(archive)).found).toEqual(unlisted);
    restore.push(() => archive.remove('digests/date=2026-06-04/digest.json'));
    expect(await archive.digest(june(5, 0, 15))).toMatchObject({
      written: [{ date: '2026-06-04', entries: 0 }],
      refused: 1,
    });
    expect((await verify(archive)).found).toEqual(unlisted);
  });

  it.each(['2026-06-01', '2026-06-02', '2026-06-03'])(
    'verify names the digest of %s when it is removed',
    async (date) => {
      await spoil(digestKey(date), undefined);
      expect((await verify(archive)).found).toEqual([`missing ${full(digestKey(date))}`]);
    },
  );

  it.each(['2026-06-01', '2026-06-02', '2026-06-03'])(
    'verify names the digest of %s when any byte of it is changed',
    async (date) => {
      const bytes = await archive.read(digestKey(date));
      const places = [0, 20, bytes.length - 30, bytes.length - 1, Math.floor(bytes.length / 2)];
      for (const at of places) {
        await spoil(digestKey(date), withOneByteChanged(bytes, at));
        const chain = await readDigestChain({ ...access(archive), onEntries: async () => undefined }, never);
        expect(chain.findings.map(({ key }) => key)).toEqual([full(digestKey(date))]);
        expect(['changed', 'forged']).toContain(chain.findings[0]?.kind);
      }
      // And nothing else is doubted for it.
      expect((await verify(archive)).findings.map(({ key }) => key)).toEqual([full(digestKey(date))]);
    },
  );

  it('verify names a digest that another key signed, one of another day, and one between two days', async () => {
    const digest = parseDigest(await archive.read(digestKey('2026-06-02')));
    if (!digest) throw new Error('it is a digest');
    const { schemaVersion: _, signature: __, ...facts } = digest;
    await spoil(digestKey('2026-06-02'), sealDigest({ ...facts, entries: [] }, OTHER_KEY));
    expect((await verify(archive)).found).toEqual([`forged ${full(digestKey('2026-06-02'))}`]);
    await spoil(digestKey('2026-06-02'), await archive.read(digestKey('2026-06-01')));
    expect((await verify(archive)).found).toEqual([`forged ${full(digestKey('2026-06-02'))}`]);
    // Who has the key may write another digest of that day: the next one names the hash of the first.
    await spoil(
      digestKey('2026-06-02'),
      sealDigest({ ...facts, createdAt: june(4).toISOString() }, archive.key),
    );
    expect((await verify(archive)).found).toEqual([`changed ${full(digestKey('2026-06-02'))}`]);
  });

  it('verify names an object among the digests that is no digest', async () => {
    await spoil('digests/date=2026-06-02/other.json', Buffer.from('{}'));
    expect((await verify(archive)).found).toEqual([`orphaned ${full('digests/date=2026-06-02/other.json')}`]);
  });

  it('verify accepts what is newer than the last digest, and asks for a digest once it is late', async () => {
    const session = archive.newSession(june(4));
    restore.push(() => archive.remove(sessionPrefix(session)));
    await archive.archive(june(4), session);
    expect((await verify(archive, { now: june(5, 5, 59) })).found).toEqual([]);
    expect((await verify(archive, { now: june(5, 6) })).found).toEqual([
      `missing ${full(digestKey('2026-06-04'))}`,
    ]);
  });
});

describe('a signed archive of 1,000 manifests', () => {
  it('verify names every manifest of 1,000 of which one byte is changed, whichever byte that is', async ({
    onTestFinished,
  }) => {
    const directory = await temporaryDirectory();
    onTestFinished(directory.remove);
    const archive = new SignedArchive(directory.path);
    const keys = await Promise.all(
      Array.from({ length: 1_000 }, async () => manifestKey(await archive.archive(june(1)))),
    );
    await archive.digest(june(2, 0, 15));
    expect((await verify(archive, { now: june(2) })).found).toEqual([]);

    const manifests = await Promise.all(keys.map(async (key) => ({ key, bytes: await archive.read(key) })));
    const { length } = manifests[0]?.bytes ?? [];
    expect(length).toBeLessThan(keys.length);
    const changed = manifests.slice(0, length);
    await Promise.all(changed.map(({ key, bytes }, at) => archive.put(key, withOneByteChanged(bytes, at))));
    const { findings } = await verify(archive, { now: june(2) });
    expect(findings.map(({ key }) => key).sort()).toEqual(
      changed.map(({ key }) => archive.plain.fullKey(key)).sort(),
    );
    expect(new Set(findings.map(({ kind }) => kind))).toEqual(new Set(['changed']));
  });
});
