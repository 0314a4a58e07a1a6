import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import type { ErrorCode } from '../../src/domain/errors.ts';
import { SESSION_STATES, type SessionView, type TranscriptState } from '../../src/domain/views.ts';
import { sessionPrefix } from '../../src/storage/layout.ts';
import type { ArchiveKind } from './archive-stores.ts';
import { openSetup, type Pipeline, type PipelineOptions, type Setup } from './pipeline.ts';
import { type QueueKind, whyMissing } from './queues.ts';

/** What a deployment is made of. */
export interface SetupKinds {
  readonly queue: QueueKind;
  readonly archive: ArchiveKind;
}

/** The deployments that the main job is proven on. */
const SETUPS: readonly SetupKinds[] = [
  { queue: 'redis', archive: 's3' },
  { queue: 'postgres', archive: 'file' },
  { queue: 'embedded', archive: 'file' },
];

/** Starts a pipeline for one test, which is ended and checked after it. */
export type Start = (options?: PipelineOptions) => Promise<Pipeline>;

/** Defines a suite once for each deployment; where PostgreSQL is not installed, its name says so. */
export function describeOnEachSetup(
  title: string,
  define: (start: Start, setup: () => Setup) => void,
  setups: readonly SetupKinds[] = SETUPS,
): void {
  for (const { queue, archive } of setups) {
    const missing = whyMissing(queue);
    const name = `${title} (${queue} and ${archive})`;
    describe.skipIf(missing !== undefined)(missing ? `${name}: ${missing}` : name, () => {
      let setup: Setup | undefined;
      let running: Pipeline[] = [];
      const opened = () => {
        if (!setup) throw new Error('only within a test');
        return setup;
      };
      beforeAll(async () => {
        setup = await openSetup(queue, archive);
      });
      afterAll(() => setup?.close());
      afterEach(async () => {
        const stopping = running;
        running = [];
        // One after the other, the first ones last: a sandbox may be shared.
        for (const pipeline of stopping.reverse()) await pipeline.stop();
      });
      const start: Start = async (options) => {
        const pipeline = await opened().start(options);
        running.push(pipeline);
        return pipeline;
      };
      define(start, opened);
    });
  }
}

/**
 * Proves that a session is archived and right in every place: its view, the objects in the archive, nothing
 * besides, and nothing left in the queue.
 *
 * @param names of its recordings in the archive, in the order listed.
 */
export async function expectArchived(
  pipeline: Pipeline,
  sessionId: string,
  expected: { names: readonly string[]; transcript: TranscriptState; attempts?: number },
): Promise<SessionView> {
  const { botId } = pipeline.sandbox;
  const view = await pipeline.ends(sessionId);
  expect(view).toMatchObject({
    sessionId,
    botId,
    state: 'archived',
    transcript: expected.transcript,
    attempts: expected.attempts ?? 1,
  });
  expect(view.error).toBeUndefined();

  const directory = sessionPrefix({ botId, sessionId });
  const documents = expected.transcript === 'archived' ? ['transcript.json'] : [];
  expect((await pipeline.archived()).sort()).toEqual(
    [...expected.names, ...documents, 'manifest.json'].map((name) => directory + name).sort(),
  );

  const manifest = await pipeline.manifest(sessionId);
  expect(manifest.transcript.state).toBe(expected.transcript);
  expect(manifest.recordings.map(({ key }) => key.slice(key.lastIndexOf('/') + 1))).toEqual(expected.names);
  const upstream = pipeline.sandbox.session(sessionId).recordings;
  expect(manifest.recordings.map(({ sha256 }) => sha256)).toEqual(upstream.map((one) => one.sha256()));
  for (const { key, bytes, sha256 } of manifest.recordings) {
    const stored = await pipeline.read(key);
    expect({ bytes: stored.length, sha256: hashOf(stored) }).toEqual({ bytes, sha256 });
  }
  if (manifest.transcript.key !== undefined) {
    const stored = await pipeline.read(manifest.transcript.key);
    expect(manifest.transcript).toMatchObject({ bytes: stored.length, sha256: hashOf(stored) });
  }
  expect(view.recordings?.map(({ key, bytes, sha256 }) => ({ key, bytes, sha256 }))).toEqual(
    manifest.recordings.map(({ key, bytes, sha256 }) => ({ key, bytes, sha256 })),
  );
  await expectQueue(pipeline, { archived: 1 }, expected.transcript === 'pending' ? 1 : 0);
  return view;
}

/** Proves that a session failed with a code, and left nothing but its entry in the list of failed ones. */
export async function expectFailed(
  pipeline: Pipeline,
  sessionId: string,
  expected: { code: ErrorCode; attempts?: number },
): Promise<SessionView> {
  const view = await pipeline.ends(sessionId);
  expect(view).toMatchObject({ state: 'failed', error: { code: expected.code } });
  if (expected.attempts !== undefined) expect(view.attempts).toBe(expected.attempts);
  expect(await pipeline.archived()).toEqual([]);
  await expectQueue(pipeline, { failed: 1 }, 0);
  return view;
}

/** The counts of the queue; states that are not named are empty. */
export async function expectQueue(
  pipeline: Pipeline,
  states: Partial<Record<(typeof SESSION_STATES)[number], number>>,
  transcriptsPending: number,
): Promise<void> {
  const { states: counts, transcriptsPending: pending } = await pipeline.operations.stats();
  const zeros = Object.fromEntries(SESSION_STATES.map((state) => [state, 0]));
  expect({ ...counts, transcriptsPending: pending }).toEqual({ ...zeros, ...states, transcriptsPending });
}

/** Lowercase hex. */
export function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
