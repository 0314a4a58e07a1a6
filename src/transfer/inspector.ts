import type { Conclusion, Container } from './audio/container.ts';
import { type DocumentKind, recogniseDocument } from './audio/document.ts';
import { HEAD_BYTES, recognise } from './audio/recognise.ts';

/** What a body is, judged by its first bytes; neither where it is some unknown binary. */
export interface Identity {
  readonly container?: Container;
  readonly document?: DocumentKind;
}

/** Looks at a body's bytes as they pass, keeping no more than its first and last ones. */
export interface Inspector {
  /** Takes note of the next bytes. */
  add(chunk: Buffer): void;
  /** Whether enough has passed to tell what it is. */
  readonly headIsComplete: boolean;
  /** What the body is, judged by the bytes so far. */
  identify(): Identity;
  /** What the bytes so far say, were they all. `undefined` where no container was recognised. */
  conclude(): Conclusion | undefined;
}

/** @param contentType the body's header, which only decides what plain text is. */
export function createInspector(contentType: string | undefined): Inspector {
  let totalBytes = 0;
  let head: Buffer[] = [];
  /** Set for good once the head is complete. */
  let identity: Identity | undefined;
  const tail: Buffer[] = [];
  /** Where in `tail` the chunks begin that are still wanted. */
  let tailStart = 0;
  let tailBytes = 0;

  function identify(): Identity {
    if (identity !== undefined) return identity;
    const found = identifyHead(Buffer.concat(head), contentType);
    if (totalBytes < HEAD_BYTES) return found;
    identity = found;
    head = [];
    trimTail(found.container?.tailBytes ?? 0);
    return identity;
  }

  /** Lets go of the oldest chunks that the last `wanted` bytes do without. */
  function trimTail(wanted: number): void {
    let oldest = tail[tailStart];
    while (oldest && tailBytes - oldest.length >= wanted) {
      tailBytes -= oldest.length;
      tailStart += 1;
      oldest = tail[tailStart];
    }
    // Not one by one: a server that sends single bytes makes thousands of chunks, all of which a shift would move.
    if (2 * tailStart > tail.length) {
      tail.splice(0, tailStart);
      tailStart = 0;
    }
  }

  return {
    add(chunk) {
      if (totalBytes < HEAD_BYTES) head.push(chunk);
      totalBytes += chunk.length;
      const wanted = identity === undefined ? HEAD_BYTES : (identity.container?.tailBytes ?? 0);
      if (wanted === 0) return;
      tail.push(chunk);
      tailBytes += chunk.length;
      trimTail(wanted);
    },
    get headIsComplete() {
      return totalBytes >= HEAD_BYTES;
    },
    identify,
    conclude() {
      const { container } = identify();
      if (container === undefined) return undefined;
      const wanted = Math.min(container.tailBytes, tailBytes);
      const last = wanted === 0 ? Buffer.alloc(0) : Buffer.concat(tail.slice(tailStart));
      return container.conclude(totalBytes, last.subarray(last.length - wanted));
    },
  };
}

function identifyHead(head: Buffer, contentType: string | undefined): Identity {
  const container = recognise(head);
  if (container !== undefined) return { container };
  const document = recogniseDocument(head, contentType);
  return document === undefined ? {} : { document };
}
