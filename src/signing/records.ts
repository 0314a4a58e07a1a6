/** Reading what signed records say. */

import { hash } from 'node:crypto';
import { isVoicemailError } from '../domain/errors.ts';
import { type Manifest, parseManifest, revisionOf } from '../storage/documents.ts';
import { readSessionKey } from '../storage/layout.ts';
import { isObject, parseJson } from '../util/json.ts';
import type { FoundManifest } from './judge.ts';

/** What the bytes of a manifest say of it. What is no manifest is told by its hash alone. */
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
