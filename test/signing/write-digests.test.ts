import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SessionRef } from '../../src/domain/session.ts';
import { type Digest, digestKey, parseDigest } from '../../src/signing/digest.ts';
import { readPublicKeys, signingStore } from '../../src/signing/signatures.ts';
import { createOverdueDigestCount, writeDigests } from '../../src/signing/write-digests.ts';
import { buildManifest, parseManifest, serialize } from '../../src/storage/documents.ts';
import { manifestKey } from '../../src/storage/layout.ts';
import { verifySignatures } from '../../src/verification/verify-signatures.ts';
import { openTestArchive } from '../support/archive-stores.ts';
import { put } from '../support/archived-sessions.ts';
import { silent } from '../support/queues.ts';
import { temporaryDirectory } from '../support/services.ts';
import { newSigningKey, SignedArchive } from '../support/signed-archive.ts';
import { sha256 } from '../support/storage-bodies.ts';

const never = new AbortController().signal;
const june = (day: number, hour = 12, minute = 0) => new Date(Date.UTC(2026, 5, day, hour, minute));

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let archive: SignedArchive;
beforeEach(async () => {
  directory = await temporaryDirectory();
  archive = new SignedArchive(directory.path);
});
afterEach(() => directory.remove());

async function digestOf(date: string): Promise<Digest> {
  const digest = parseDigest(await archive.read(digestKey(date)));
  if (!digest) throw new Error(`${date} has a digest`);
  return digest;
}

async function findings(now: Date, keys = [archive.key]): Promise<string[]> {
  const found: string[] = [];
  const deps = {
    store: archive.plain,
    keys: readPublicKeys(keys.map(({ publicKey }) => publicKey)),
    concurrency: 4,
    now: () => now,
    onFinding: async ({ kind, key }: { kind: string; key: string }) => void found.push(`${kind} ${key}`),
  };
  await verifySignatures({ kind: 'archive' }, deps, never);
  return found.sort();
}

/** What was archived before there was a key. */
async function archiveUnsigned(at: Date): Promise<SessionRef> {
  const session = await archive.archive(at);
  const { signature: _, ...manifest } = parseManifest(await archive.read(manifestKey(session)), 'k');
  await put(archive.plain, manifestKey(session), serialize(manifest));
  await archive.age(manifestKey(session), at);
  return session;
}

describe('daily digests', () => {
  it('daily digests name what was added, replaced and erased, with the hashes before and after', async () => {
    const [one, two] = [await archive.archive(june(1)), await archive.archive(june(1))];
    const before = sha256(await archive.read(manifestKey(one)));
    await archive.digest(june(2, 0, 15));
    await archive.revise(one, june(2));
    const gone = sha256(await archive.read(manifestKey(two)));
    await archive.erase(two, june(2));
    await archive.digest(june(3, 0, 15));
    const first = await archive.read(digestKey('2026-06-01'));
    const digest = await digestOf('2026-06-02');
    expect(digest).toMatchObject({
      previous: { date: '2026-06-01', sha256: sha256(first) },
      coversTo: june(3, 0, 15).toISOString(),
      signature: { kid: archive.key.kid },
    });
    const at = june(2).toISOString();
    expect(digest.entries).toEqual([
      expect.objectContaining({
        event: 'replaced',
        key: manifestKey(one),
        revision: 2,
        sha256: sha256(await archive.read(manifestKey(one))),
        previousSha256: before,
        at,
      }),
      expect.objectContaining({
        event: 'erased',
        key: manifestKey(two),
        revision: 1,
        previousSha256: gone,
        at,
      }),
    ]);
  });

  it('daily digests are written once, when run again and when two run at once', async () => {
    await archive.archive(june(1));
    const runs = await Promise.all([archive.digest(june(2, 0, 15)), archive.digest(june(2, 0, 16))]);
    expect(runs.flatMap(({ written }) => written.map(({ date }) => date))).toEqual(['2026-06-01']);
    expect((await archive.digest(june(2, 12))).written).toEqual([]);
    expect(await findings(june(2))).toEqual([]);
  });

  it('missing daily digests are written later, each with what happened on its day', async () => {
    await archive.archive(june(1));
    await archive.digest(june(2, 0, 15));
    const [second, fourth] = [await archive.archive(june(2)), await archive.archive(june(4))];
    const { written } = await archive.digest(june(5, 9));
    expect(written.map(({ date, entries }) => [date, entries])).toEqual([
      ['2026-06-02', 1],
      ['2026-06-03', 0],
      ['2026-06-04', 1],
    ]);
    expect((await digestOf('2026-06-02')).entries.map(({ key }) => key)).toEqual([manifestKey(second)]);
    expect((await digestOf('2026-06-04')).entries.map(({ key }) => key)).toEqual([manifestKey(fourth)]);
    expect(await findings(june(6))).toEqual([]);
  });

  it('daily digests lose nothing when the process ends between two of them', async () => {
    await archive.archive(june(1));
    await archive.digest(june(2, 0, 15));
    await archive.archive(june(2));
    const third = await archive.archive(june(3));
    await archive.digest(june(5, 9));
    // As if only the first of three had been written.
    for (const date of ['2026-06-03', '2026-06-04']) await archive.remove(digestKey(date));
    await archive.digest(june(6, 9));
    expect((await digestOf('2026-06-03')).entries.map(({ key }) => key)).toEqual([manifestKey(third)]);
    expect(await findings(june(6))).toEqual([]);
  });

  it('daily digests know what was archived long ago when it is archived again, erased or repaired', async () => {
    const [again, gone, lost] = [
      await archive.archive(june(1)),
      await archive.archive(june(1)),
      await archive.archive(june(1)),
    ];
    for (const day of [2, 3, 4, 5]) await archive.digest(june(day, 0, 15));
    await archive.revise(again, june(20));
    await archive.erase(gone, june(20));
    await archive.remove(manifestKey(lost));
    await archive.archive(june(20), lost);
    await archive.digest(june(21, 0, 15));
    const { entries } = await digestOf('2026-06-20');
    expect(Object.fromEntries(entries.map(({ key, event }) => [key, event]))).toEqual({
      [manifestKey(again)]: 'replaced',
      [manifestKey(gone)]: 'erased',
      [manifestKey(lost)]: 'replaced',
    });
    expect(await findings(june(21))).toEqual([]);
  });

  it('the first daily digest covers everything there is, signed or not, and later ones only signed manifests', async () => {
    const old = await archiveUnsigned(june(1));
    expect(await findings(june(1))).toEqual([`forged ${archive.plain.fullKey(manifestKey(old))}`]);
    expect(await archive.digest(june(2, 0, 15))).toMatchObject({ written: [{ entries: 1 }], refused: 0 });
    expect(await findings(june(2))).toEqual([]);
    const late = await archiveUnsigned(june(2));
    expect(await archive.digest(june(3, 0, 15))).toMatchObject({ written: [{ entries: 0 }], refused: 1 });
    expect(await findings(june(3))).toEqual([`forged ${archive.plain.fullKey(manifestKey(late))}`]);
  });

  it('daily digests continue with another key, and then both are needed to verify', async () => {
    const before = archive.key;
    const one = await archive.archive(june(1));
    await archive.digest(june(2, 0, 15));
    const two = await archive.archive(june(2, 9));
    archive.key = newSigningKey();
    await archive.archive(june(2, 15));
    await archive.revise(one, june(2, 15));
    expect(await archive.digest(june(3, 0, 15))).toMatchObject({ written: [{ entries: 3 }], refused: 0 });
    expect(await findings(june(3), [before, archive.key])).toEqual([]);
    expect(await findings(june(3))).toEqual(
      [
        `forged ${archive.plain.fullKey(digestKey('2026-06-01'))}`,
        `forged ${archive.plain.fullKey(manifestKey(two))}`,
      ].sort(),
    );
  });

  describe('digests of many entries', () => {
    const partsOf = async (date: string) => (await digestOf(date)).parts ?? [];
    const partKeys = async () => {
      const keys: string[] = [];
      for await (const { key } of archive.plain.list('digests/', never)) {
        if (key.endsWith('.jsonl')) keys.push(key);
      }
      return keys;
    };

    it('digests of many entries are written in parts, which they name by their hashes, and later ones continue from them', async () => {
      const sessions: SessionRef[] = [];
      for (let count = 0; count < 7; count += 1) sessions.push(await archive.archive(june(1)));
      expect(await archive.digest(june(2, 0, 15), 3)).toMatchObject({
        written: [{ entries: 7 }],
        refused: 0,
      });

      const digest = await digestOf('2026-06-01');
      expect(digest.entries).toEqual([]);
      expect(digest.parts?.map(({ entries }) => entries)).toEqual([3, 3, 1]);
      const lines: string[] = [];
      for (const { key, sha256: named } of digest.parts ?? []) {
        const bytes = await archive.read(key);
        expect([sha256(bytes), key]).toEqual([named, `digests/date=2026-06-01/part-${named}.jsonl`]);
        lines.push(...bytes.toString().trimEnd().split('\n'));
      }
      const keys = lines.map((line) => JSON.parse(line).key);
      expect(keys).toEqual(sessions.map(manifestKey).sort());
      expect(await findings(june(2))).toEqual([]);

      await archive.revise(sessions[4] as SessionRef, june(2));
      expect(await archive.digest(june(3, 0, 15), 3)).toMatchObject({ written: [{ entries: 1 }] });
      expect((await digestOf('2026-06-02')).entries).toMatchObject([{ event: 'replaced', revision: 2 }]);
      expect(await findings(june(3))).toEqual([]);
    });

    it('parts of a digest that are changed, removed or slipped in are named by verify', async () => {
      for (let count = 0; count < 4; count += 1) await archive.archive(june(1));
      await archive.digest(june(2, 0, 15), 2);
      const [one, two] = await partsOf('2026-06-01');
      if (!one || !two) throw new Error('it has two parts');
      const [first, second] = [await archive.read(one.key), await archive.read(two.key)];
      await archive.put(one.key, Buffer.from(first.toString().replace('"added"', '"erased"')));
      await archive.remove(two.key);
      const slipped = `digests/date=2026-06-01/part-${'0'.repeat(64)}.jsonl`;
      await archive.put(slipped, first);
      const full = (key: string) => archive.plain.fullKey(key);
      expect(await findings(june(2))).toEqual(
        [`changed ${full(one.key)}`, `missing ${full(two.key)}`, `orphaned ${full(slipped)}`].sort(),
      );
      await archive.put(one.key, first);
      await archive.put(two.key, second);
      await archive.remove(slipped);
      expect(await findings(june(2))).toEqual([]);
    });

    it('a digest run that was interrupted, or was slower than another, leaves no parts', async () => {
      for (let count = 0; count < 4; count += 1) await archive.archive(june(1));
      await archive.digest(june(2, 0, 15), 2);
      // As if it had been killed before it could write the digest, and more came since.
      await archive.remove(digestKey('2026-06-01'));
      for (let count = 0; count < 3; count += 1) await archive.archive(june(1));
      await archive.digest(june(2, 0, 30), 2);
      expect((await partKeys()).sort()).toEqual((await partsOf('2026-06-01')).map(({ key }) => key).sort());

      for (let count = 0; count < 4; count += 1) await archive.archive(june(2));
      await Promise.all([archive.digest(june(3, 0, 15), 2), archive.digest(june(3, 0, 15), 3)]);
      const named = [...(await partsOf('2026-06-01')), ...(await partsOf('2026-06-02'))];
      expect((await partKeys()).sort()).toEqual(named.map(({ key }) => key).sort());
      expect(await findings(june(3))).toEqual([]);
    });
  });

  it('daily digests count as late from six hours after their day', async () => {
    await archive.archive(june(1));
    const late = (now: Date) => createOverdueDigestCount(archive.plain, () => now.getTime())();
    expect(await late(june(2, 12))).toBe(1);
    await archive.digest(june(2, 0, 15));
    expect(await late(june(2, 12))).toBe(0);
    expect(await late(june(3, 5, 59))).toBe(0);
    expect(await late(june(3, 6))).toBe(1);
    expect(await late(june(5, 6))).toBe(3);
  });

  it('no daily digest continues from one that was changed', async () => {
    await archive.archive(june(1));
    await archive.digest(june(2, 0, 15));
    const bytes = await archive.read(digestKey('2026-06-01'));
    await put(archive.plain, digestKey('2026-06-01'), bytes.toString().replace('"added"', '"erased"'));
    await expect(archive.digest(june(3, 0, 15))).rejects.toMatchObject({
      code: 'ARCHIVE_CONFLICT',
      hint: expect.stringContaining('--public-key'),
    });
  });
});

it('daily digests work in a bucket as in a directory', async () => {
  const bucket = await openTestArchive('s3');
  const { store } = bucket;
  const key = newSigningKey();
  const session = { botId: 'st-1', sessionId: '67ab573f3685d1ba99540000' };
  const archivedAt = new Date();
  const tomorrow = new Date(archivedAt.getTime() + 24 * 60 * 60 * 1000);
  const manifest = buildManifest({ session, archivedAt, recordings: [], transcript: { state: 'absent' } });
  await put(signingStore(store, key), manifestKey(session), serialize(manifest));
  const run = await writeDigests({ store, key, now: () => tomorrow, log: silent }, never);
  expect(run).toMatchObject({ written: [{ entries: 1 }], refused: 0 });
  const verify = async () => {
    const found: string[] = [];
    const deps = {
      store,
      keys: readPublicKeys([key.publicKey]),
      concurrency: 4,
      now: () => tomorrow,
      onFinding: async (finding: { kind: string; key: string }) =>
        void found.push(`${finding.kind} ${finding.key}`),
    };
    await verifySignatures({ kind: 'archive' }, deps, never);
    return found;
  };
  expect(await verify()).toEqual([]);
  const other = serialize({ ...manifest, archivedAt: tomorrow.toISOString() });
  await put(store, manifestKey(session), other);
  expect(await verify()).toEqual([`changed ${store.fullKey(manifestKey(session))}`]);
  await put(store, digestKey(run.written[0]?.date ?? ''), '{}');
  expect(await verify()).toEqual([
    expect.stringMatching(/^forged .*digest\.json$/),
    `forged ${store.fullKey(manifestKey(session))}`,
  ]);
  await bucket.close();
});
