/** The server that holds the queue dies while sessions are worked on, and another one takes its place. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { wavOf } from '../support/audio.ts';
import { hashOf } from '../support/each-setup.ts';
import { startPipeline } from '../support/pipeline.ts';
import { type Failover, startFailoverCluster, startFailoverSentinels } from '../support/redis-failover.ts';

/** BullMQ's own prefix on a cluster, which decides the slot of the queue. */
const QUEUE_KEY = '{bull}';
const SESSIONS = 40;
const CONCURRENCY = 4;
const POLL = { timeout: 60_000, interval: 200 };

let archive: TestArchive;
beforeAll(async () => {
  archive = await openTestArchive('file');
});
afterAll(() => archive.close());

describe.each<[string, () => Promise<Failover>]>([
  ['a cluster of three nodes, one of which is a replica', () => startFailoverCluster(QUEUE_KEY)],
  ['a master with a replica and three Sentinels', startFailoverSentinels],
])('%s', (_, startServers) => {
  it('a failover of the server with the queue neither loses nor doubles a session', {
    timeout: 120_000,
  }, async () => {
    const servers = await startServers();
    try {
      const queue = {
        kind: 'redis' as const,
        shared: true,
        config: loadConfig({ QUEUE_URL: servers.url }, { needs: [] }).queue,
        contents: async () => '',
        remove: async () => undefined,
      };
      const pipeline = await startPipeline(
        { queue, archive, isQueueInspected: false },
        { work: { concurrency: CONCURRENCY }, startWorker: false },
      );
      const { sandbox } = pipeline;
      const contents = new Map<string, Buffer>();
      const add = () => {
        const content = wavOf(500 + contents.size);
        const sessionId = sandbox.addSession({ recordings: [{ content }], transcription: 'Call me.' });
        contents.set(sessionId, content);
        return sessionId;
      };
      const ids = Array.from({ length: SESSIONS }, add);
      await pipeline.enqueue(...ids);
      // What was accepted is on both; what is done from now on may be forgotten by the one that takes over.
      await servers.replicated();
      await pipeline.startWorker();
      await sandbox.waitFor(
        (calls) => calls.filter(({ route }) => route === 'media').length >= 2 * CONCURRENCY,
      );
      await servers.fail();

      const manifests = async () =>
        (await pipeline.archived()).filter((key) => key.endsWith('/manifest.json')).length;
      await expect.poll(manifests, POLL).toBe(SESSIONS);
      ids.push(add());
      await expect
        .poll(() => pipeline.enqueue(ids.at(-1) ?? '').catch(() => 'the queue is unavailable'), POLL)
        .not.toBe('the queue is unavailable');
      for (const id of ids) expect((await pipeline.ends(id)).state).toBe('archived');

      for (const id of ids) {
        const { recordings, revision } = await pipeline.manifest(id);
        const sha256 = hashOf(contents.get(id) ?? Buffer.alloc(0));
        expect([recordings.map((recording) => recording.sha256), revision]).toEqual([[sha256], 1]);
      }
      // The recording, the transcript and the manifest of each, and nothing else.
      expect(await pipeline.archived()).toHaveLength(3 * ids.length);
      const { states } = await pipeline.operations.stats();
      expect(states).toMatchObject({ archived: ids.length, failed: 0, active: 0, queued: 0, waiting: 0 });
      await pipeline.stop();
    } finally {
      await servers.stop();
    }
  });
});
