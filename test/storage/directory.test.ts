import { execFile, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VoicemailError } from '../../src/domain/errors.ts';
import { toArchiveFileError } from '../../src/storage/fs/files.ts';
import { publishIfAbsent } from '../../src/storage/fs/publish.ts';
import { createDirectoryStore } from '../../src/storage/fs/store.ts';
import { bodyOf, bytesOf } from '../support/storage-bodies.ts';

const WAV = { contentType: 'audio/wav' };
const never = new AbortController().signal;
const HOUR_MS = 60 * 60 * 1000;

const STORE_MODULE = new URL('../../src/storage/fs/store.ts', import.meta.url).href;

/** A process that writes a file without end. */
function startWriter(directory: string) {
  const child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { readdir } from 'node:fs/promises';
       const { createDirectoryStore } = await import(${JSON.stringify(STORE_MODULE)});
       async function* chunks() {
         yield Buffer.of(1);
         const own = (await readdir(process.argv[1] + '/.tmp')).filter((name) => name.includes('.' + process.pid + '.'));
         console.log(own.join());
         await new Promise((resolve) => setTimeout(resolve, 3_600_000));
       }
       const body = { chunks: chunks(), sha256: () => '' };
       await createDirectoryStore(process.argv[1])
         .writeStream('endless-' + process.pid, body, { contentType: 'a/b' }, 'absent', new AbortController().signal);`,
      directory,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const lines = createInterface(child.stdout);
  return {
    process: child,
    /** The name of its temporary file. */
    writing: once(lines, 'line').then(([line]) => String(line)),
    ended: once(child, 'exit'),
  };
}

function canMountReadOnly(): boolean {
  try {
    execFileSync('unshare', ['-rm', 'sh', '-c', 'mount -t tmpfs -o ro tmpfs /tmp'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

let top: string;
let root: string;
beforeEach(async () => {
  top = await mkdtemp(join(tmpdir(), 'directory-store-'));
  root = join(top, 'archive');
});
afterEach(() => rm(top, { recursive: true, force: true }));

test('the directory store gives its absolute location', () => {
  expect(createDirectoryStore(root).location).toBe(`file:${root}`);
});

test('the directory store creates nothing before it is used', async () => {
  await createDirectoryStore(root).read('a/b', never);
  expect(await readdir(top)).toEqual([]);
});

test('the directory store gives files and directories no permissions for others', async () => {
  await createDirectoryStore(root).write('a/b.wav', bytesOf(5), WAV, 'absent', never);
  expect((await stat(join(root, 'a/b.wav'))).mode & 0o137).toBe(0);
  expect((await stat(join(root, 'a'))).mode & 0o027).toBe(0);
});

test('the directory store shows a file under its name only when it is whole', async () => {
  const store = createDirectoryStore(root);
  const seen: string[][] = [];
  const body = bodyOf(bytesOf(300_000), {
    beforeChunk: async () => {
      seen.push((await readdir(root, { recursive: true })).filter((name) => !name.startsWith('.tmp')));
    },
  });
  await store.writeStream('a/b.wav', body, WAV, 'absent', never);
  expect(seen.length).toBeGreaterThan(3);
  expect(seen.flat()).toEqual([]);
  expect((await readdir(root, { recursive: true })).sort()).toEqual(['a', 'a/b.wav']);
});

test('the directory store requests the next chunk only when the one before is written', async () => {
  const store = createDirectoryStore(root);
  const onDisk: number[] = [];
  const body = bodyOf(bytesOf(200_000), {
    chunkBytes: 50_000,
    beforeChunk: async () => {
      const [name] = await readdir(join(root, '.tmp'));
      onDisk.push((await stat(join(root, '.tmp', name ?? ''))).size);
    },
  });
  await store.writeStream('a.wav', body, WAV, 'absent', never);
  expect(onDisk).toEqual([0, 50_000, 100_000, 150_000, 200_000]);
});

test('the directory store removes old files of killed processes, and leaves recent and foreign ones', async () => {
  const past = new Date(Date.now() - 2 * HOUR_MS);
  const [old, recent] = [randomUUID(), randomUUID()];
  await mkdir(join(root, '.tmp', `${'0'.repeat(64)}.lock`), { recursive: true });
  await symlink(root, join(root, '.tmp', randomUUID().replace(/^./, 'f')));
  for (const name of [old, recent, 'notes.txt', `${old}.txt`]) await writeFile(join(root, '.tmp', name), 'x');
  for (const name of [old, 'notes.txt', `${old}.txt`]) await utimes(join(root, '.tmp', name), past, past);
  const before = await readdir(join(root, '.tmp'));
  await createDirectoryStore(root).write('a.wav', bytesOf(1), WAV, 'absent', never);
  expect((await readdir(join(root, '.tmp'))).sort()).toEqual(before.filter((name) => name !== old).sort());
});

test('the directory store removes at once what a killed process was writing, and leaves what a living one writes', async () => {
  const children = [startWriter(root), startWriter(root)] as const;
  try {
    const [killed, living] = await Promise.all(children.map((child) => child.writing));
    expect((await readdir(join(root, '.tmp'))).sort()).toEqual([killed, living].flat().sort());
    children[0].process.kill('SIGKILL');
    await children[0].ended;
    await createDirectoryStore(root).write('a.wav', bytesOf(1), WAV, 'absent', never);
    expect(await readdir(join(root, '.tmp'))).toEqual([living]);
  } finally {
    for (const { process, ended } of children) {
      process.kill('SIGKILL');
      await ended;
    }
  }
});

test('many writers at once leave their files and nothing else', async () => {
  const stores = [createDirectoryStore(root), createDirectoryStore(root), createDirectoryStore(root)];
  const names = Array.from({ length: 60 }, (_, index) => `s${index % 7}/f${index}.wav`);
  await Promise.all(
    names.map((name, index) =>
      stores[index % 3]?.writeStream(name, bodyOf(bytesOf(1000)), WAV, 'absent', never),
    ),
  );
  const files = (await readdir(root, { recursive: true })).filter((name) => name.endsWith('.wav'));
  expect(files.sort()).toEqual([...names].sort());
  expect(await readdir(root)).not.toContain('.tmp');
});

describe('a directory without hard links', () => {
  test('one of two writers at once wins where there are no hard links', async () => {
    await mkdir(root);
    const outcomes = await Promise.all(
      [1, 2].map(async (number) => {
        const temporary = join(root, `t${number}`);
        await writeFile(temporary, String(number));
        return publishIfAbsent(temporary, join(root, 'final'), {
          root,
          key: 'final',
          signal: never,
          hardLinks: false,
        });
      }),
    );
    expect(outcomes.toSorted()).toEqual([false, true]);
    const winner = outcomes.indexOf(true) + 1;
    expect(await readFile(join(root, 'final'), 'utf8')).toBe(String(winner));
    expect(await readdir(root)).not.toContain('.tmp');
  });

  test('an existing file stays where there are no hard links', async () => {
    await mkdir(root);
    await writeFile(join(root, 'final'), 'old');
    await writeFile(join(root, 't'), 'new');
    expect(
      await publishIfAbsent(join(root, 't'), join(root, 'final'), {
        root,
        key: 'final',
        signal: never,
        hardLinks: false,
      }),
    ).toBe(false);
    expect(await readFile(join(root, 'final'), 'utf8')).toBe('old');
  });
});

describe('symbolic links', () => {
  test('a symbolic link may lead to the archive itself', async () => {
    await mkdir(join(top, 'disk'));
    await symlink(join(top, 'disk'), root);
    const store = createDirectoryStore(root);
    await store.write('a/b.wav', bytesOf(5), WAV, 'absent', never);
    expect(await readFile(join(top, 'disk/a/b.wav'))).toEqual(bytesOf(5));
  });

  test('a symbolic link may not lead out of the archive', async () => {
    await mkdir(root);
    await mkdir(join(top, 'outside'));
    await writeFile(join(top, 'outside', 'secret'), 'secret');
    await symlink(join(top, 'outside'), join(root, 'a'));
    await symlink(join(top, 'outside', 'secret'), join(root, 'b'));
    const store = createDirectoryStore(root);
    const denied = { code: 'ARCHIVE_DENIED', message: expect.stringContaining('symbolic link') };
    await expect(store.read('a/secret', never)).rejects.toMatchObject(denied);
    await expect(store.read('b', never)).rejects.toMatchObject(denied);
    await expect(store.write('a/new/x.wav', bytesOf(5), WAV, 'absent', never)).rejects.toMatchObject(denied);
    await expect(store.write('b', bytesOf(5), WAV, 'absent', never)).rejects.toMatchObject(denied);
    expect(await readdir(join(top, 'outside'))).toEqual(['secret']);
  });
});

describe('errors of a directory', () => {
  test('a file where a directory belongs is reported with what to do', async () => {
    await writeFile(root, 'x');
    const store = createDirectoryStore(root);
    const expected = { code: 'ARCHIVE_DENIED', message: expect.stringContaining(root) };
    await expect(store.check(never)).rejects.toMatchObject(expected);
    await expect(store.write('a.wav', bytesOf(1), WAV, 'absent', never)).rejects.toMatchObject(expected);
  });

  test('a directory where a file belongs is reported with what to do', async () => {
    await mkdir(join(root, 'a.wav'), { recursive: true });
    const store = createDirectoryStore(root);
    expect(await store.head('a.wav', never)).toBeUndefined();
    await expect(store.write('a.wav', bytesOf(1), WAV, 'absent', never)).rejects.toMatchObject({
      code: 'ARCHIVE_CONFLICT',
    });
    await expect(store.write('a.wav', bytesOf(1), WAV, 'replace', never)).rejects.toMatchObject({
      code: 'ARCHIVE_DENIED',
    });
    expect(await readdir(root)).toEqual(['a.wav']);
  });

  test.skipIf(!canMountReadOnly())(
    'a read-only file system is reported with what to do (needs Linux and unshare)',
    async () => {
      for (const archive of [top, root]) {
        const { stdout } = await promisify(execFile)('unshare', [
          '-rm',
          'sh',
          '-c',
          'mount -t tmpfs -o ro tmpfs "$1" && exec "$2" --input-type=module -e "$3" "$4"',
          'sh',
          top,
          process.execPath,
          `const { createDirectoryStore } = await import(${JSON.stringify(STORE_MODULE)});
         const write = createDirectoryStore(process.argv[1])
           .write('a/b.wav', Buffer.of(1), { contentType: 'audio/wav' }, 'absent', new AbortController().signal);
         await write.catch(({ code, message, hint }) => console.log(code, message, hint));`,
          archive,
        ]);
        expect(stdout).toMatch(
          /^ARCHIVE_DENIED .*the file system is read-only \(EROFS\) mount it writable.*\n$/,
        );
      }
    },
  );

  test('an archive that became usable is used', async () => {
    await writeFile(root, 'x');
    const store = createDirectoryStore(root);
    await expect(store.check(never)).rejects.toThrow();
    await rm(root);
    await store.check(never);
  });

  test.for([
    ['ENOSPC', 'ARCHIVE_UNAVAILABLE', 'the disk is full'],
    ['EDQUOT', 'ARCHIVE_UNAVAILABLE', 'the disk is full'],
    ['EACCES', 'ARCHIVE_DENIED', 'rights'],
    ['EROFS', 'ARCHIVE_DENIED', 'read-only'],
    ['EMFILE', 'ARCHIVE_UNAVAILABLE', 'ulimit'],
    ['EIO', 'ARCHIVE_UNAVAILABLE', 'fault'],
  ] as const)('the error %s is %s, with a message about: %s', ([system, code, words]) => {
    const error = Object.assign(new Error('as the system says'), { code: system });
    const converted = toArchiveFileError(error, 'file:/a') as VoicemailError;
    expect(converted.code).toBe(code);
    expect(`${converted.message}; ${converted.hint}`).toContain(words);
  });
});
