/** Reads the archive with retries, and distinguishes a broken object from an unreachable archive. */

import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isVoicemailError, type VoicemailError } from '../domain/errors.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';
import { createInspector } from '../transfer/audio/inspector.ts';
import type { Facts } from './findings.ts';

/** The stores' own clients try again as well; this is for answers that are cut. */
const ATTEMPTS = 3;
const FIRST_PAUSE_MS = 200;

/** A key that nothing lies at. */
const PROBE_KEY = 'archive-check';

/** Something that could not be read, although the archive as such can be. */
export interface Unreadable {
  readonly error: VoicemailError;
}

/**
 * Reads something, several times if need be.
 *
 * @returns what `read` returned, or why this one thing could not be read.
 * @throws VoicemailError when nothing in the archive can be read: that says nothing about the single object.
 */
export async function readWithRetries<Result>(
  store: ArchiveStore,
  read: () => Promise<Result>,
  signal: AbortSignal,
): Promise<Result | Unreadable> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await read();
    } catch (error) {
      if (signal.aborted || !isVoicemailError(error)) throw error;
      if (error.code !== 'ARCHIVE_UNAVAILABLE' || attempt === ATTEMPTS) {
        await store.read(PROBE_KEY, signal);
        return { error };
      }
    }
    await delay(FIRST_PAUSE_MS * 2 ** (attempt - 1), undefined, { signal });
  }
}

/** Whether {@link readPatiently} had to give up. */
export function isUnreadable(result: unknown): result is Unreadable {
  return typeof result === 'object' && result !== null && 'error' in result;
}

/** What a manifest says of an object. */
export interface ExpectedObject {
  readonly bytes: number;
  /** Lowercase hex. */
  readonly sha256: string;
  /** Of a recording whose container was recognised. */
  readonly container?: string;
}

/** How an object compares with its manifest. */
export type Comparison =
  | { readonly kind: 'same'; readonly bytes: number }
  | { readonly kind: 'missing' }
  | {
      readonly kind: 'changed';
      readonly bytes: number;
      readonly what: string;
      /** Of all that is compared, what differs. */
      readonly expected: Facts;
      readonly found: Facts;
    }
  | ({ readonly kind: 'unreadable' } & Unreadable);

/**
 * Reads an object again, whatever its size in constant memory, and compares it with what its manifest says.
 *
 * A container that the manifest does not name is not compared: a later version may recognise more.
 *
 * @throws VoicemailError when nothing in the archive can be read.
 */
export async function checkObject(
  key: string,
  promised: ExpectedObject,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Comparison> {
  const actual = await readWithRetries(store, () => measure(key, store, signal), signal);
  if (actual === undefined) return { kind: 'missing' };
  if (isUnreadable(actual)) return { kind: 'unreadable', ...actual };
  const { bytes, sha256, container } = actual;
  const isOtherContainer = promised.container !== undefined && promised.container !== container;
  const differences = [
    ...(bytes === promised.bytes ? [] : (['bytes'] as const)),
    ...(sha256 === promised.sha256 ? [] : (['sha256'] as const)),
    ...(isOtherContainer ? (['container'] as const) : []),
  ];
  if (differences.length === 0) return { kind: 'same', bytes };
  const pick = (facts: Facts): Facts =>
    Object.fromEntries(differences.map((difference) => [difference, facts[difference]]));
  return {
    kind: 'changed',
    bytes,
    what: differences.map((difference) => WORDS[difference](promised, actual)).join('; '),
    expected: pick(promised),
    found: pick(actual),
  };
}

interface Actual {
  readonly bytes: number;
  readonly sha256: string;
  readonly container: string;
}

const WORDS: Readonly<Record<keyof ExpectedObject, (promised: ExpectedObject, actual: Actual) => string>> = {
  bytes: (promised, actual) => `size ${actual.bytes} instead of ${promised.bytes} bytes`,
  sha256: (promised, actual) => `SHA-256 ${actual.sha256} instead of ${promised.sha256}`,
  container: (promised, actual) => `container ${actual.container} instead of ${promised.container}`,
};

async function measure(key: string, store: ArchiveStore, signal: AbortSignal): Promise<Actual | undefined> {
  const hash = createHash('sha256');
  const inspector = createInspector(undefined);
  let bytes = 0;
  const isThere = await store.scan(
    key,
    (chunk) => {
      hash.update(chunk);
      inspector.add(chunk);
      bytes += chunk.length;
    },
    signal,
  );
  if (!isThere) return undefined;
  return { bytes, sha256: hash.digest('hex'), container: inspector.conclude()?.facts.container ?? 'none' };
}

/**
 * Waits until the youngest of some objects was written so long ago: what is being archived or removed at this
 * moment has mostly found its end by then.
 *
 * @returns whether it had to wait.
 */
export async function waitUntilSettled(
  objects: readonly ListedObject[],
  settleMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const youngest = objects.reduce((latest, { modifiedAt }) => Math.max(latest, modifiedAt.getTime()), 0);
  // The store's clock may be ahead of this machine's.
  const waitMs = Math.min(settleMs, youngest + settleMs - Date.now());
  if (waitMs <= 0) return false;
  await delay(waitMs, undefined, { signal });
  return true;
}

/** The empty objects by which consoles show folders in a bucket: nothing is in them, and nothing is wrong. */
export function isFolderMark({ key, bytes }: ListedObject): boolean {
  return bytes === 0 && (key === '' || key.endsWith('/'));
}

/** The full key of anything that may lie in an archive, directories and keys that it would never write included. */
export function fullKeyOf(store: ArchiveStore, key: string): string {
  return store.fullKey('-').slice(0, -1) + key;
}
