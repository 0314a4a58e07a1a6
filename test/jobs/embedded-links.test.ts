import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openEmbeddedBackend } from '../../src/jobs/backends/embedded.ts';
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
