import { createHash } from 'node:crypto';
import type { ArchiveStore } from '../storage/store.ts';
import { createInspector } from '../transfer/inspector.ts';
import type { Facts } from './finding.ts';
import { isUnreadable, readPatiently, type Unreadable } from './reading.ts';

/** What a manifest says of an object. */
export interface Promised {
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
 * @throws ArchiverError when nothing in the archive can be read.
 */
export async function checkObject(
  key: string,
  promised: Promised,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Comparison> {
  const actual = await readPatiently(store, () => measure(key, store, signal), signal);
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

const WORDS: Readonly<Record<keyof Promised, (promised: Promised, actual: Actual) => string>> = {
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
