import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { manifestKey } from '../../src/storage/layout.ts';
import { put } from '../support/archived-sessions.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { temporaryDirectory } from '../support/services.ts';
import { SignedArchive } from '../support/signed-archive.ts';

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let archive: SignedArchive;
let env: Record<string, string>;
let publicKey: string;

beforeAll(async () => {
  directory = await temporaryDirectory();
  archive = new SignedArchive(join(directory.path, 'archive'));
  publicKey = join(directory.path, 'key.pub.pem');
  const privateKey = join(directory.path, 'key.pem');
  await writeFile(privateKey, archive.key.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  await writeFile(publicKey, archive.key.publicKey.export({ type: 'spki', format: 'pem' }));
  env = { ARCHIVE_URL: `file:${archive.path}`, MANIFEST_KEY_FILE: privateKey };
});
afterAll(() => directory.remove());

it('digest writes what is due, and verify --public-key needs nothing but the archive', async () => {
  const session = await archive.archive(new Date(Date.UTC(2026, 4, 3)));
  const first = await runInProcess(['digest', '--json'], { env });
  expect(first.code, first.stderr).toBe(0);
  expect(JSON.parse(first.stdout)).toMatchObject({ written: [{ entries: 1 }], refused: 0 });
  expect((await runInProcess(['digest'], { env })).stdout).toContain('nothing to do');

  const { ARCHIVE_URL } = env;
  const verify = () =>
    runInProcess(['verify', '--public-key', publicKey], { env: { ARCHIVE_URL: ARCHIVE_URL ?? '' } });
  const clean = await verify();
  expect(clean).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('signatures: 1 daily digest, from '),
  });

  const manifest = (await archive.read(manifestKey(session))).toString();
  await put(archive.plain, manifestKey(session), manifest.replace('media.example', 'media.examplf'));
  const changed = await verify();
  expect(changed.code).toBe(1);
  expect(changed.stdout).toContain(`changed     ${manifestKey(session)}  its signature does not fit`);
  expect(changed.stdout).toContain('1 changed, 0 unreadable, 0 partial, 0 orphaned, 0 forged, 0 unlisted');
});

it.each([
  [['digest'], { MANIFEST_KEY_FILE: '' }, 'set MANIFEST_KEY_FILE'],
  [['verify', '--public-key', 'no-such-file'], {}, 'openssl pkey -in key.pem -pubout'],
])('%j without its key is wrong usage', async (args, more, says) => {
  const run = await runInProcess(args, { env: { ...env, ...more } });
  expect(run.code).toBe(2);
  expect(run.stderr).toContain(says);
});
