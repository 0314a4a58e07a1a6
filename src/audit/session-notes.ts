import type { ArchiverError } from '../errors.ts';
import type { SessionRef } from '../session.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';
import type { Comparison, Promised } from './check-object.ts';
import type { Facts, Finding, FindingKind, Outcome } from './finding.ts';
import { fullKeyOf } from './full-key.ts';

/** What is noted while one session is looked at. */
export class SessionNotes {
  readonly #session: SessionRef;
  readonly #store: ArchiveStore;
  readonly #findings: Finding[] = [];
  #objects = 0;
  #bytes = 0;

  constructor(session: SessionRef, store: ArchiveStore) {
    this.#session = session;
    this.#store = store;
  }

  /** Notes a finding. @param key relative. */
  add(
    kind: FindingKind,
    key: string,
    what: string,
    repairable: boolean,
    facts: { readonly expected?: Facts; readonly found?: Facts } = {},
  ): void {
    const { sessionId, botId } = this.#session;
    this.#findings.push({
      kind,
      key: fullKeyOf(this.#store, key),
      sessionId,
      botId,
      what,
      ...facts,
      repairable,
    });
  }

  /** Notes that an object was read. */
  read(bytes: number): void {
    this.#objects += 1;
    this.#bytes += bytes;
  }

  /** Notes what can't be read. What is denied is mended by a right or by restoring it, not by archiving it again. */
  unreadable(key: string, error: ArchiverError): void {
    this.add('unreadable', key, error.message, error.code !== 'ARCHIVE_DENIED');
  }

  /** Notes how an object compares with its manifest. */
  compared(key: string, { bytes, sha256 }: Promised, comparison: Comparison): void {
    switch (comparison.kind) {
      case 'same':
        this.read(comparison.bytes);
        break;
      case 'missing':
        this.add('missing', key, 'its manifest names it', true, { expected: { bytes, sha256 } });
        break;
      case 'changed': {
        const { what, expected, found } = comparison;
        this.read(comparison.bytes);
        this.add('changed', key, what, true, { expected, found });
        break;
      }
      case 'unreadable':
        this.unreadable(key, comparison.error);
        break;
    }
  }

  /** Notes objects that no manifest names. */
  orphans(objects: readonly ListedObject[], what: string, repairable: boolean): void {
    for (const { key, bytes } of objects) this.add('orphaned', key, what, repairable, { found: { bytes } });
  }

  /** What it all came to. */
  outcome(): Outcome {
    return { sessions: 1, objects: this.#objects, bytes: this.#bytes, findings: this.#findings };
  }
}
