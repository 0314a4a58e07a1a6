/** What the program writes with a key: manifests of real workers, records of erasures, and the digests that are due. */

import { Queue } from 'bullmq';
import { expect, it, vi } from 'vitest';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { backfillQueueName } from '../../src/jobs/backfill-queue.ts';
import { openRuntime } from '../../src/runtime.ts';
import { startSandbox } from '../../src/sandbox/sandbox.ts';
import { checkSignature, readPublicKeys, signingStore } from '../../src/signing/signatures.ts';
import { digestDates } from '../../src/signing/write-digests.ts';
import { manifestKey, partialManifestKey, sessionPrefix } from '../../src/storage/layout.ts';
import { openStore } from '../../src/storage/open.ts';
import { put } from '../support/archived-sessions.ts';
import { createTestQueue, silent } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';
import { newSigningKey } from '../support/signed-archive.ts';

const never = new AbortController().signal;
/** Longer than anything takes, however busy the machine is. */
const PATIENTLY = { timeout: 100_000, interval: 50 };
const KEY = newSigningKey();
const KEYS = readPublicKeys([KEY.publicKey]);

it('a worker signs manifests, by force too, and erasures, and writes the digests that are due', async () => {
  const sandbox = await startSandbox();
  const directory = await temporaryDirectory();
  const queue = await createTestQueue('redis');
  const environment = { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}` };
  const { config: unsigned, kore } = testConfig(environment, queue.config);
  const config = { ...unsigned, manifestKey: KEY.privateKey };
  const runtime = await openRuntime(config, silent);
  const worker = await runtime.startWorker(kore);
  const store = await openStore(config.archive);
  const backend = await openBackend(config.queue, silent);
  try {
    await worker.ready();
    const session = { botId: kore.botId, sessionId: sandbox.addSession({}) };
    const read = async (key: string) => {
      const bytes = await store.read(key, never);
      return bytes && { check: checkSignature(bytes, KEYS).kind, document: JSON.parse(bytes.toString()) };
    };
    const manifest = () => read(manifestKey(session));
    await runtime.operations.enqueue([session]);
    const signed = (revision: number) => ({ check: 'valid', document: { revision } });
    await vi.waitFor(async () => expect(await manifest()).toMatchObject(signed(1)), PATIENTLY);
    await vi.waitFor(async () => {
      const [result] = await runtime.operations.enqueue([{ ...session, force: true }]);
      expect(result?.outcome).not.toBe('already-queued');
    }, PATIENTLY);
    await vi.waitFor(async () => expect(await manifest()).toMatchObject(signed(2)), PATIENTLY);

    const jobs = new Queue(
      backend.queueName(backfillQueueName(config.queue.name)),
      { ...backend.options('producer') },
      backend.factory,
    );
    const due = (await jobs.getDelayed()).filter(({ name }) => name === 'digests');
    expect(due).toHaveLength(1);
    await due[0]?.promote();
    await vi.waitFor(async () => expect(await digestDates(store, never)).toHaveLength(1), PATIENTLY);
    await jobs.close();

    const erased = await runtime.custody.erase(session);
    expect(erased).toMatchObject({ outcome: 'erased' });
    expect(await manifest()).toBeUndefined();
    expect(await read(`${sessionPrefix(session)}tombstone.json`)).toMatchObject({ check: 'valid' });
  } finally {
    await worker.stop();
    await Promise.all([runtime.close(), backend.close(), store.close()]);
    await queue.remove();
    await directory.remove();
    await sandbox.close();
  }
});

it('a worker signs partial manifests, and nothing else in the archive', async () => {
  const directory = await temporaryDirectory();
  const store = await openStore({ kind: 'file', directory: directory.path });
  const session = { botId: 'st-1', sessionId: '67ab573f3685d1ba99540000' };
  const checkOf = async (key: string) => {
    await put(signingStore(store, KEY), key, '{"a":1}\n');
    return checkSignature((await store.read(key, never)) ?? Buffer.alloc(0), KEYS).kind;
  };
  expect(await checkOf(partialManifestKey(session))).toBe('valid');
  expect(await checkOf(`${sessionPrefix(session)}transcript.json`)).toBe('none');
  expect(await checkOf(`${sessionPrefix(session)}hold.json`)).toBe('none');
  expect(await checkOf('audit/manifest.json')).toBe('none');
  await directory.remove();
});
