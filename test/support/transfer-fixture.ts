import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, expect, vi } from 'vitest';
import { isVoicemailError, type VoicemailError } from '../../src/domain/errors.ts';
import type { TransferredRecording } from '../../src/domain/recording.ts';
import { type ArchiveKind, openTestArchive, type TestArchive } from './archive-stores.ts';
import { type MediaServer, startMediaServer } from './media-server.ts';
import {
  createHarness,
  type TransferHarness,
  type TransferRun,
  type TransferSetup,
} from './transfer-harness.ts';

export const MIB = 1024 * 1024;
export const ETAG = '"v1"';

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
export const unixSeconds = (fromNowSeconds: number): number => Math.floor(Date.now() / 1000) + fromNowSeconds;

/** A promise and its end. */
export function gate(): { readonly passed: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { passed: promise, open: resolve };
}

/** What tests of transfers share: one archive for the suite, a server and a transfer function for each test. */
export interface TransferParts {
  readonly archive: TestArchive;
  server: MediaServer;
  harness: TransferHarness;
  /** The running test's own key. */
  readonly key: string;
  /** Replaces the transfer function by one with other settings. */
  use(setup: TransferSetup): Promise<void>;
}

/** Parts with checks of all that the tests put into the archive. */
export interface TransferFixture extends TransferParts {
  /** A signed URL of the server's. */
  url(path?: string): string;
  /** Runs a transfer that has to bring exactly these bytes; after the test, the archive is looked at as well. */
  archived(bytes: Buffer, run?: Partial<TransferRun>): Promise<TransferredRecording>;
  /** Runs a transfer that has to fail, and leave nothing. */
  failed(run?: Partial<TransferRun>): Promise<VoicemailError>;
}

/**
 * Opens and closes the parts by hooks of the surrounding `describe`. After each test nothing unfinished may be left in
 * the archive, and no memory in use.
 */
export function transferParts(kind: ArchiveKind): TransferParts {
  let archive: TestArchive;
  let server: MediaServer;
  let harness: TransferHarness;
  let count = 0;

  beforeAll(async () => {
    archive = await openTestArchive(kind);
  });

  afterAll(async () => {
    await archive.close();
  });

  beforeEach(async () => {
    server = await startMediaServer();
    harness = createHarness(archive.store);
    count += 1;
  });

  afterEach(async () => {
    vi.useRealTimers();
    await harness.close();
    await server.close();
    expect(await archive.leftovers()).toEqual([]);
    expect([harness.memory.usedBytes, harness.memory.waiting]).toEqual([0, 0]);
  });

  return {
    get archive() {
      return archive;
    },
    get server() {
      return server;
    },
    set server(next) {
      server = next;
    },
    get harness() {
      return harness;
    },
    set harness(next) {
      harness = next;
    },
    get key() {
      return `session/${count}.wav`;
    },
    async use(setup) {
      await harness.close();
      harness = createHarness(archive.store, setup);
    },
  };
}

/** Sets it all up by hooks of the surrounding `describe`. */
export function transferFixture(kind: ArchiveKind): TransferFixture {
  /** Full keys of all that should be in the archive by now. */
  const keys = new Set<string>();
  /** What the running test put there. */
  const expected = new Map<string, Buffer>();

  // Runs after the hook of the parts, which ends all transfers: hooks after a test run in reverse order.
  afterEach(async () => {
    const { archive, harness } = parts;
    // Whatever the test was about: exactly what should be there is, whole, and nothing beside it.
    expect(await archive.list()).toEqual([...keys].sort());
    for (const [fullKey, bytes] of expected) {
      expect((await archive.get(fullKey)).equals(bytes), fullKey).toBe(true);
    }
    expect(harness.lines.join('')).not.toContain('signature');
    expected.clear();
  });
  const parts = transferParts(kind);

  const url: TransferFixture['url'] = (path = '/voicemail.wav') =>
    `${parts.server.origin}${path}${path.includes('?') ? '&' : '?'}s=signature`;
  const run = (changes: Partial<TransferRun>) =>
    parts.harness.run({ key: parts.key, urls: [url()], ...changes });

  return Object.assign(parts, {
    url,
    async archived(bytes: Buffer, changes: Partial<TransferRun> = {}) {
      const result = await run(changes);
      expect(result).toMatchObject({ bytes: bytes.length, sha256: sha256(bytes) });
      const fullKey = parts.archive.store.fullKey(changes.key ?? parts.key);
      keys.add(fullKey);
      expected.set(fullKey, bytes);
      return result;
    },
    async failed(changes: Partial<TransferRun> = {}) {
      const error: unknown = await run(changes).then(
        (result) => result,
        (reason: unknown) => reason,
      );
      if (!isVoicemailError(error)) throw new Error('no VoicemailError', { cause: error });
      expect(error.message).not.toContain('signature');
      return error;
    },
  });
}
