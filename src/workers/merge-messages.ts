/** Transcripts that grow: what Kore lists now, together with what it listed before. */

import { readMessage, type TranscriptMessage } from '../storage/documents.ts';

/**
 * All messages of a transcript, in the order in which they were first seen. One that Kore has changed takes the place
 * of its earlier form, unless it has lost its text; none goes away because Kore no longer lists it.
 *
 * @returns `undefined` when nothing is new.
 */
export function mergeMessages(
  before: readonly unknown[],
  received: readonly unknown[],
): readonly unknown[] | undefined {
  const merged = [...before];
  const places = new Map(named(before).map(({ name }, index) => [name, index]));
  let isChanged = false;
  for (const { name, message, document } of named(received)) {
    const place = places.get(name);
    if (place === undefined) {
      merged.push(document);
      isChanged = true;
      continue;
    }
    const earlier = readMessage(before[place]);
    // Fields that change with each answer are no reason to write it anew.
    if (JSON.stringify(earlier) === JSON.stringify(message)) continue;
    if (message.text === null && earlier.text !== null) continue;
    merged[place] = document;
    isChanged = true;
  }
  return isChanged ? merged : undefined;
}

interface Named {
  /** The same for the same message in every answer. */
  readonly name: string;
  readonly message: TranscriptMessage;
  readonly document: unknown;
}

/** Messages by their ids, or by what they say; of several alike, each has a name of its own. */
function named(documents: readonly unknown[]): Named[] {
  const counts = new Map<string, number>();
  return documents.map((document) => {
    const message = readMessage(document);
    const base = message.id === null ? JSON.stringify(message) : `id ${message.id}`;
    const count = (counts.get(base) ?? 0) + 1;
    counts.set(base, count);
    return { name: `${base} ${count}`, message, document };
  });
}
