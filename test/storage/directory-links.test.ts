/** A directory store and symbolic links: nothing outside the archive is read, written, listed or removed. */

import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import {
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkDirectory } from '../../src/doctor/directory.ts';
import { holdWithin, makeWithin, removeTree } from '../../src/storage/fs/directories.ts';
import { createDirectoryStore } from '../../src/storage/fs/store.ts';
import { bodyOf, bytesOf } from '../support/storage-bodies.ts';

const WAV = { contentType: 'audio/wav' };
const never = new AbortController().signal;
const DENIED = { code: 'ARCHIVE_DENIED', message: expect.stringContaining('symbolic link') };
const LINK_HINT = expect.stringContaining('remove the symbolic link');

let top: string;
let root: string;
/** A directory that has nothing to do with the archive, with files that look like the archive's own and are old. */
let outside: string;
let before: string[];
beforeEach(async () => {
  top = await mkdtemp(join(tmpdir(), 'directory-links-'));
  root = join(top, 'archive');
  outside = join(top, 'outside');
  await mkdir(root);
  await mkdir(outside);
  const past = new Date(Date.now() - 24 * 60 * 60 * 1000);
  for (const name of [
    'letters.txt',
    randomUUID(),
    `${'ab'.repeat(32)}.lock`,
    `${'ab'.repeat(8)}.1.1-${randomUUID()}`,
  ]) {
    await writeFile(join(outside, name), 'private');
    await utimes(join(outside, name), past, past);
  }
  before = await contentsOf(outside);
});
afterEach(() => rm(top, { recursive: true, force: true }));

/** Names, sizes and times of all files. */
async function contentsOf(directory: string): Promise<string[]> {
  const names = (await readdir(directory, { recursive: true })).sort();
  return Promise.all(
    names.map(async (name) => {
      const { size, mtimeMs } = await stat(join(directory, name));
      return `${name} ${size} ${mtimeMs}`;
    }),
  );
}

/** Puts a link to the outside in the place of a directory, which is moved away. */
async function swap(directory: string): Promise<void> {
  await rename(directory, join(top, 'moved'));
  await symlink(outside, directory);
}

describe('a symbolic link in the place of the directory for unfinished files', () => {
  beforeEach(() => symlink(outside, join(root, '.tmp')));
  afterEach(async () => expect(await contentsOf(outside)).toEqual(before));

  test('the readiness check reports a link in the place of the directory for unfinished files, and removes nothing behind it', async () => {
    await expect(createDirectoryStore(root).check(never)).rejects.toMatchObject({
      ...DENIED,
      hint: LINK_HINT,
    });
  });

  test('doctor reports a link in the place of the directory for unfinished files, and removes nothing behind it', async () => {
    const [archive] = await checkDirectory(root, 1, never);
    expect(archive).toMatchObject({ status: 'failed' });
    expect(JSON.stringify(archive)).toContain('symbolic link');
  });

  test('a link in the place of the directory for unfinished files is never written to', async () => {
    const written = createDirectoryStore(root).writeStream(
      'a/b.wav',
      bodyOf(bytesOf(5)),
      WAV,
      'absent',
      never,
    );
    await expect(written).rejects.toMatchObject(DENIED);
    expect(await readdir(root)).toEqual(['.tmp']);
  });

  test('a link in the place of the directory for unfinished files is listed as what it is', async () => {
    const keys: string[] = [];
    for await (const { key, isOther } of createDirectoryStore(root).list('', never, { withOthers: true })) {
      keys.push(`${key} ${isOther}`);
    }
    expect(keys).toEqual(['.tmp true']);
  });
});

test('swapping the directory for unfinished files for a link in the middle of a download leads nowhere', async () => {
  const store = createDirectoryStore(root);
  let name = '';
  const body = bodyOf(bytesOf(300_000), {
    beforeChunk: async (given) => {
      if (given === 0 || name !== '') return;
      [name = ''] = await readdir(join(root, '.tmp'));
      await swap(join(root, '.tmp'));
      await writeFile(join(outside, name), 'bait');
    },
  });
  expect(await store.writeStream('a/b.wav', body, WAV, 'absent', never)).toBe('stored');
  expect(await readFile(join(root, 'a/b.wav'))).toEqual(bytesOf(300_000));
  expect(await readFile(join(outside, name), 'utf8')).toBe('bait');
  await rm(join(outside, name));
  expect(await contentsOf(outside)).toEqual(before);
});

test.for(['absent', 'replace'] as const)(
  "swapping a session's directory for a link in the middle of a download writes nothing behind it (%s)",
  async (mode) => {
    const store = createDirectoryStore(root);
    await store.write('a/first.wav', bytesOf(5), WAV, 'absent', never);
    let swapped = false;
    const body = bodyOf(bytesOf(300_000), {
      beforeChunk: async (given) => {
        if (given === 0 || swapped) return;
        swapped = true;
        await swap(join(root, 'a'));
      },
    });
    await expect(store.writeStream('a/b.wav', body, WAV, mode, never)).rejects.toMatchObject(DENIED);
    expect(await contentsOf(outside)).toEqual(before);
    expect(await readdir(join(top, 'moved'))).toEqual(['first.wav']);
    expect(await readdir(root)).toEqual(['a']);
  },
);

test("a new directory is made by its parent's handle, not by its name", async () => {
  await mkdir(join(root, 'a'));
  const held = await makeWithin(root, join(root, 'a'));
  await swap(join(root, 'a'));
  await mkdir(held.entry('b'));
  await held[Symbol.asyncDispose]();
  expect(await readdir(join(top, 'moved'))).toEqual(['b']);
  await expect(makeWithin(root, join(root, 'a', 'b'))).rejects.toMatchObject(DENIED);
  expect(await contentsOf(outside)).toEqual(before);
});

describe('a system without paths by handle', () => {
  test('a directory that was swapped is noticed where the system has no paths by handle', async () => {
    await mkdir(join(root, 'a'));
    const held = await holdWithin(root, join(root, 'a'), { byHandle: false });
    await held?.confirm();
    await swap(join(root, 'a'));
    await expect(held?.confirm()).rejects.toMatchObject(DENIED);
    await held?.[Symbol.asyncDispose]();
  });

  test('a link that leads out is refused where the system has no paths by handle', async () => {
    await symlink(outside, join(root, 'a'));
    await expect(holdWithin(root, join(root, 'a'), { byHandle: false })).rejects.toMatchObject(DENIED);
  });
});

describe('listings of directories with links', () => {
  test('listings show nothing behind a link that leads out, and report it', async () => {
    await symlink(outside, join(root, 'a'));
    const store = createDirectoryStore(root);
    const first = (listing: AsyncIterable<unknown>) => listing[Symbol.asyncIterator]().next();
    await expect(first(store.list('a/', never))).rejects.toMatchObject(DENIED);
    await expect(first(store.listDirectory('a/', never))).rejects.toMatchObject(DENIED);
    await expect(store.head('a/letters.txt', never)).rejects.toMatchObject(DENIED);
    await expect(store.scan('a/letters.txt', () => undefined, never)).rejects.toMatchObject(DENIED);
    await expect(store.readVersion('a/letters.txt', never)).rejects.toMatchObject(DENIED);
  });

  test('listings continue with what a directory held, and follow no link put in its place meanwhile', async () => {
    const store = createDirectoryStore(root);
    for (const key of ['a/1', 'a/2', 'b/1']) await store.write(key, bytesOf(5), WAV, 'absent', never);
    const seen: string[] = [];
    const unreadable: string[] = [];
    const onUnreadable = (key: string) => void unreadable.push(key);
    for await (const { key } of store.list('', never, { onUnreadable })) {
      seen.push(key);
      if (key === 'a/1') await swap(join(root, 'a'));
      if (key === 'a/2') {
        await rename(join(root, 'b'), join(top, 'moved-b'));
        await symlink(outside, join(root, 'b'));
      }
    }
    expect(seen).toEqual(['a/1', 'a/2']);
    expect(unreadable).toEqual(['b/']);
  });
});

test.skipIf(process.getuid?.() !== 0)(
  "another user's directory in the place of that for unfinished files is left alone (needs root)",
  async () => {
    await mkdir(join(root, '.tmp'));
    const name = randomUUID();
    await writeFile(join(root, '.tmp', name), 'private');
    const past = new Date(Date.now() - 24 * 60 * 60 * 1000);
    await utimes(join(root, '.tmp', name), past, past);
    await chown(join(root, '.tmp'), 12_345, 12_345);
    const store = createDirectoryStore(root);
    await store.check(never);
    await expect(store.write('a', bytesOf(1), WAV, 'absent', never)).rejects.toMatchObject({
      code: 'ARCHIVE_DENIED',
      message: expect.stringContaining('another user'),
    });
    expect(await readdir(join(root, '.tmp'))).toEqual([name]);
  },
);

test('removing a tree removes the links in it, and nothing behind them', async () => {
  await mkdir(join(root, 'probe', 'deep'), { recursive: true });
  await symlink(outside, join(root, 'probe', 'deep', 'link'));
  await writeFile(join(root, 'probe', 'file'), 'x');
  await removeTree(root, 'probe');
  expect(await readdir(root)).toEqual([]);
  await symlink(outside, join(root, 'probe'));
  await expect(removeTree(root, 'probe')).rejects.toMatchObject(DENIED);
  await removeTree(root, 'not-there');
  expect(await contentsOf(outside)).toEqual(before);
});

test.each(['a pipe', 'a symbolic link'])(
  'a lock that is %s blocks nobody, and is not followed',
  async (what) => {
    const store = createDirectoryStore(root);
    const key = 'bot_id=a/manifest.json';
    await store.write(key, Buffer.from('one'), WAV, 'replace', never);
    await mkdir(join(root, '.tmp'));
    const lock = join(root, '.tmp', `${createHash('sha256').update(key).digest('hex')}.lock`);
    if (what === 'a pipe') execFileSync('mkfifo', [lock]);
    else await symlink(join(outside, 'letters.txt'), lock);

    await expect(store.write(key, Buffer.from('two'), WAV, 'replace', never)).rejects.toThrow();

    expect(await contentsOf(outside)).toEqual(before);
    expect((await store.read(key, never))?.toString()).toBe('one');
    await store.close();
  },
);
