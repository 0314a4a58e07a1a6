import { chmod, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { holdDirectory, openEmbeddedBackend } from '../../src/jobs/backends/embedded.ts';
import { createLogger } from '../../src/util/log.ts';

test.for(['pgdata', 'lock'])(
  'the embedded queue writes nothing behind a symbolic link in its directory: %s',
  async (name) => {
    const top = await mkdtemp(join(tmpdir(), 'embedded-links-'));
    onTestFinished(() => rm(top, { recursive: true, force: true }));
    await mkdir(join(top, 'outside'));
    await mkdir(join(top, 'queue'));
    const target = name === 'lock' ? join(top, 'outside', 'file') : join(top, 'outside');
    if (name === 'lock') await writeFile(target, '');
    await symlink(target, join(top, 'queue', name));
    const before = await readdir(join(top, 'outside'));
    await expect(
      openEmbeddedBackend({ directory: join(top, 'queue') }, undefined, createLogger('silent')),
    ).rejects.toThrow('symbolic link');
    expect(await readdir(join(top, 'outside'))).toEqual(before);
  },
);

test('the embedded queue makes a directory private that was open to everybody', async () => {
  const top = await mkdtemp(join(tmpdir(), 'embedded-mode-'));
  onTestFinished(() => rm(top, { recursive: true, force: true }));
  const directory = join(top, 'queue');
  await mkdir(directory, { mode: 0o777 });
  await chmod(directory, 0o777);
  const release = holdDirectory(directory);
  release();
  expect((await stat(directory)).mode & 0o777).toBe(0o700);
});
