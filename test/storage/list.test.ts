import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findArchived } from '../../src/backfills/archived.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { manifestKey, tombstoneKey } from '../../src/storage/layout.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';

const signal = new AbortController().signal;

describe.each(ARCHIVE_KINDS)('listing an archive (%s)', (kind) => {
  let archive: TestArchive;

  beforeAll(async () => {
    archive = await openTestArchive(kind);
  });
  afterAll(() => archive.close());

  async function list(prefix: string): Promise<string[]> {
    const found: string[] = [];
    for await (const { key, bytes } of archive.store.list(prefix, signal)) found.push(`${key} ${bytes}`);
    return found.sort();
  }

  async function collect<Entry>(listing: AsyncIterable<Entry>): Promise<Entry[]> {
    const entries: Entry[] = [];
    for await (const entry of listing) entries.push(entry);
    return entries;
  }

  async function write(key: string, bytes = 1): Promise<void> {
    await archive.store.write(key, Buffer.alloc(bytes), { contentType: 'text/plain' }, 'replace', signal);
  }

  it('a listing finds all objects below a prefix, under the keys they were written with', async () => {
    expect(await list('')).toEqual([]);
    expect(await list('a/b/')).toEqual([]);
    await Promise.all([write('a/b/one', 3), write('a/b/c/two', 5), write('a/bc/three'), write('four')]);
    expect(await list('a/b/')).toEqual(['a/b/c/two 5', 'a/b/one 3']);
    expect(await list('')).toEqual(['a/b/c/two 5', 'a/b/one 3', 'a/bc/three 1', 'four 1']);
    await expect(list('../')).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(list('a/b')).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  it('a listing gives keys in the order of their bytes, from any of them on, and directories by themselves', async () => {
    // `-` comes before `/`, which comes before `0`; the last two are ordered otherwise in UTF-16.
    const ascii = ['ord/a-b', 'ord/a/x', 'ord/a/y/z', 'ord/a0'];
    // The stand-in for a bucket sorts as people do.
    const keys = archive.atomic ? [...ascii, 'ord/ä', 'ord/\uff5e', 'ord/\u{1f600}'] : ascii;
    for (const key of keys.toReversed()) await write(key);
    const behind = async (after?: string) => {
      const found: string[] = [];
      const options = after === undefined ? {} : { after };
      for await (const { key } of archive.store.list('ord/', signal, options)) found.push(key);
      return found;
    };
    expect(await behind()).toEqual(keys);
    for (const [index, key] of keys.entries()) expect(await behind(key)).toEqual(keys.slice(index + 1));
    expect(await behind('ord/a/w')).toEqual(keys.slice(1));
    const entries = await collect(archive.store.listDirectory('ord/', signal));
    expect(entries).toMatchObject(
      ['ord/a-b', 'ord/a/', 'ord/a0', ...keys.slice(4)].map((name) =>
        name.endsWith('/') ? { directory: name } : { key: name, bytes: 1, modifiedAt: expect.any(Date) },
      ),
    );
    expect(await collect(archive.store.listDirectory('nothing/', signal))).toEqual([]);
  });

  it('a scan reads an object of any size in pieces', async () => {
    await write('scanned', 3_000_000);
    let bytes = 0;
    const onChunk = (chunk: Buffer) => {
      bytes += chunk.length;
      expect(chunk.length).toBeLessThan(3_000_000);
    };
    expect(await archive.store.scan('scanned', onChunk, signal)).toBe(true);
    expect(bytes).toBe(3_000_000);
    expect(await archive.store.scan('not-there', onChunk, signal)).toBe(false);
  });

  it.runIf(kind === 's3')(
    'a listing continues over as many pages as there are',
    { timeout: 120_000 },
    async () => {
      const keys = Array.from({ length: 1_050 }, (_, index) => `many/${String(index).padStart(4, '0')}`);
      const next = keys.values();
      const writeAll = async () => {
        for (const key of next) await write(key);
      };
      await Promise.all(Array.from({ length: 16 }, writeAll));
      expect(await list('many/')).toEqual(keys.map((key) => `${key} 1`));
    },
  );

  it('a listing stops when its signal is aborted', async () => {
    const stop = new AbortController();
    stop.abort(new Error('enough'));
    const first = archive.store.list('', stop.signal)[Symbol.asyncIterator]().next();
    await expect(first).rejects.toThrow('enough');
  });

  it.runIf(kind === 'file')('a listing leaves out unfinished files, and follows no links', async () => {
    if (archive.target.kind !== 'file') return;
    const { directory } = archive.target;
    await mkdir(join(directory, '.tmp'), { recursive: true });
    await writeFile(join(directory, '.tmp', 'half'), 'x');
    await mkdir(join(directory, 'linked'));
    await symlink(directory, join(directory, 'linked', 'loop'));
    expect(await list('linked/')).toEqual([]);
    expect((await list('')).filter((key) => key.includes('half'))).toEqual([]);
  });

  it('the check for archived sessions lists days with many sessions and asks for the others one by one', async () => {
    const at = (day: number, index: number) => makeSessionId(new Date(Date.UTC(2026, 4, day, 0, 0, index)));
    const session = (day: number) => (_: unknown, index: number) => ({
      botId: 'st-1',
      sessionId: at(day, index),
    });
    const busy = Array.from({ length: 30 }, session(1));
    const quiet = Array.from({ length: 3 }, session(2));
    const undated = [{ botId: 'st-1', sessionId: 'no-object-id' }];
    const archived = [...busy.slice(0, 10), ...quiet.slice(0, 1), ...undated];
    // Erased sessions have no manifest, and are done all the same.
    const erased = [...busy.slice(10, 11), ...quiet.slice(1, 2)];
    await Promise.all([...archived.map(manifestKey), ...erased.map(tombstoneKey)].map((key) => write(key)));

    const asked: string[] = [];
    const watched: Pick<ArchiveStore, 'head' | 'list'> = {
      head: (key, aborted) => {
        asked.push(key);
        return archive.store.head(key, aborted);
      },
      list: (prefix, aborted) => {
        asked.push(prefix);
        return archive.store.list(prefix, aborted);
      },
    };
    const found = await findArchived([...busy, ...quiet, ...undated], watched, signal);
    expect([...found].sort()).toEqual([...archived, ...erased].map(manifestKey).sort());
    expect(asked.sort()).toEqual(
      [
        'bot_id=st-1/date=2026-05-01/',
        ...[...quiet, ...undated].map(manifestKey),
        ...quiet.slice(1).map(tombstoneKey),
      ].sort(),
    );
  });
});
