import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findArchived } from '../src/backfill/find-archived.ts';
import { makeSessionId } from '../src/sandbox/ids.ts';
import { manifestKey } from '../src/storage/layout.ts';
import type { ArchiveStore } from '../src/storage/store.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from './support/archive-stores.ts';

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

  async function write(key: string, bytes = 1): Promise<void> {
    await archive.store.write(key, Buffer.alloc(bytes), { contentType: 'text/plain' }, 'replace', signal);
  }

  it('finds all below a prefix, under the keys they were written with', async () => {
    expect(await list('')).toEqual([]);
    expect(await list('a/b/')).toEqual([]);
    await Promise.all([write('a/b/one', 3), write('a/b/c/two', 5), write('a/bc/three'), write('four')]);
    expect(await list('a/b/')).toEqual(['a/b/c/two 5', 'a/b/one 3']);
    expect(await list('')).toEqual(['a/b/c/two 5', 'a/b/one 3', 'a/bc/three 1', 'four 1']);
    await expect(list('../')).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(list('a/b')).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  it.runIf(kind === 's3')('goes on over as many pages as there are', { timeout: 60_000 }, async () => {
    const keys = Array.from({ length: 1_050 }, (_, index) => `many/${String(index).padStart(4, '0')}`);
    const next = keys.values();
    const writeAll = async () => {
      for (const key of next) await write(key);
    };
    await Promise.all(Array.from({ length: 16 }, writeAll));
    expect(await list('many/')).toEqual(keys.map((key) => `${key} 1`));
  });

  it('stops when it is told to', async () => {
    const stop = new AbortController();
    stop.abort(new Error('enough'));
    const first = archive.store.list('', stop.signal)[Symbol.asyncIterator]().next();
    await expect(first).rejects.toThrow('enough');
  });

  it.runIf(kind === 'file')('leaves out what is unfinished, and follows no links', async () => {
    if (archive.target.kind !== 'file') return;
    const { directory } = archive.target;
    await mkdir(join(directory, '.tmp'), { recursive: true });
    await writeFile(join(directory, '.tmp', 'half'), 'x');
    await mkdir(join(directory, 'linked'));
    await symlink(directory, join(directory, 'linked', 'loop'));
    expect(await list('linked/')).toEqual([]);
    expect((await list('')).filter((key) => key.includes('half'))).toEqual([]);
  });

  it('tells which sessions are archived, by listing days with many and asking for the others', async () => {
    const at = (day: number, index: number) => makeSessionId(new Date(Date.UTC(2026, 4, day, 0, 0, index)));
    const session = (day: number) => (_: unknown, index: number) => ({
      botId: 'st-1',
      sessionId: at(day, index),
    });
    const busy = Array.from({ length: 30 }, session(1));
    const quiet = Array.from({ length: 3 }, session(2));
    const undated = [{ botId: 'st-1', sessionId: 'no-object-id' }];
    const archived = [...busy.slice(0, 10), ...quiet.slice(0, 1), ...undated];
    await Promise.all(archived.map((one) => write(manifestKey(one))));

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
    expect([...found].sort()).toEqual(archived.map(manifestKey).sort());
    expect(asked.sort()).toEqual(
      ['bot_id=st-1/date=2026-05-01/', ...[...quiet, ...undated].map(manifestKey)].sort(),
    );
  });
});
