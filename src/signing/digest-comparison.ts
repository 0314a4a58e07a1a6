/** Whether what lies in the archive agrees with the digests. Those who write digests and who verify them ask here. */

import { hash } from 'node:crypto';
import { isVoicemailError } from '../domain/errors.ts';
import { type Manifest, parseManifest, revisionOf } from '../storage/documents.ts';
import { readSessionKey } from '../storage/layout.ts';
import { isObject, parseJson } from '../util/json.ts';
import type { DigestEntry } from './digest.ts';

/** A manifest as it is found. */
interface FoundManifest {
  /** Lowercase hex, of its bytes. */
  readonly sha256: string;
  readonly revision: number;
  /** ISO 8601, as it says; empty where it is no manifest. */
  readonly archivedAt: string;
  /** Whether its signature is good. */
  readonly isSigned: boolean;
}

/**
 * `same`: as a digest says. `added`, `replaced`: newer than the digests. What no digest will ever say: `unsigned`;
 * `changed`: it is not what a digest says, and no later revision of it; `unlisted`: it was not there when the digests
 * of its time were written, or was erased since.
 */
export type DigestComparison = 'same' | 'added' | 'replaced' | 'unsigned' | 'changed' | 'unlisted';

/**
 * A manifest says when it was archived some moments before it is written, longer when the store has to be asked again;
 * clocks differ too (milliseconds).
 */
export const SLACK_MS = 60 * 60 * 1000;

/**
 * @param known what the digests say of it last.
 * @param coversTo up to when there are digests (unix milliseconds); `undefined` where there are none. Then whatever is
 * there is where custody begins.
 */
export function compareWithDigest(
  known: DigestEntry | undefined,
  found: FoundManifest,
  coversTo: number | undefined,
): DigestComparison {
  const isErased = known?.event === 'erased';
  if (known && !isErased && known.sha256 === found.sha256) return 'same';
  if (known && !isErased && !isLater(found, known)) return 'changed';
  if (!found.isSigned) return coversTo === undefined ? 'added' : 'unsigned';
  if (known && !isErased) return 'replaced';
  if (coversTo === undefined) return 'added';
  return timeOf(found) > coversTo - SLACK_MS ? 'added' : 'unlisted';
}

/** A forced run gives a new time of archiving; all else only raises the revision. Neither is possible without the key. */
function isLater(found: FoundManifest, known: DigestEntry): boolean {
  const difference = timeOf(found) - timeOf(known);
  return difference === 0 ? found.revision > known.revision : difference > 0;
}

/** What says no time is older than anything. */
function timeOf({ archivedAt }: Pick<FoundManifest, 'archivedAt'>): number {
  return Date.parse(archivedAt) || 0;
}

/** The facts of a manifest, by its bytes. Of bytes that are no manifest, only the hash is known. */
export function describeManifest(bytes: Buffer, key: string, isSigned: boolean): FoundManifest {
  const manifest = parsed(bytes, key);
  return {
    sha256: hash('sha256', bytes),
    revision: manifest ? revisionOf(manifest) : 1,
    archivedAt: manifest?.archivedAt ?? '',
    isSigned: isSigned && manifest !== undefined,
  };
}

function parsed(bytes: Buffer, key: string): Manifest | undefined {
  try {
    return parseManifest(bytes, key);
  } catch (error) {
    if (isVoicemailError(error, 'ARCHIVE_CONFLICT')) return undefined;
    throw error;
  }
}

/** Whether the record that a session was erased is of the session that it lies with. */
export function isTombstoneOf(bytes: Buffer, key: string): boolean {
  const session = readSessionKey(key)?.session;
  const record = parseJson(bytes.toString('utf8'));
  return isObject(record) && record.sessionId === session?.sessionId && record.botId === session?.botId;
}
