import type { Container } from './container.ts';
import { recogniseFlac } from './flac.ts';
import { id3Length } from './id3.ts';
import { recogniseMpeg } from './mpeg.ts';
import { recogniseOgg } from './ogg.ts';
import { recogniseWav } from './wav.ts';

/** How many first bytes are looked at; headers, with the tags that may stand before them, rarely need more. */
export const HEAD_BYTES = 64 * 1024;

/**
 * Recognises a container by a body's first bytes, never by its name or content type. An ID3v2 tag may stand before
 * any of them; what begins with a tag longer than the head stays unknown.
 *
 * @param head the first {@link HEAD_BYTES} of the body, or all of it if that is shorter.
 */
export function recognise(head: Buffer): Container | undefined {
  const start = id3Length(head);
  const rest = head.subarray(start);
  const container = recogniseWav(rest) ?? recogniseFlac(rest) ?? recogniseOgg(rest) ?? recogniseMpeg(rest);
  return container === undefined || start === 0 ? container : shifted(container, start);
}

/** The container as it is with so many bytes before it. */
function shifted(container: Container, start: number): Container {
  const { minimumBytes } = container;
  return {
    contentType: container.contentType,
    ...(minimumBytes === undefined ? {} : { minimumBytes: start + minimumBytes }),
    tailBytes: container.tailBytes,
    conclude(totalBytes, tail) {
      const ownBytes = totalBytes - start;
      return container.conclude(ownBytes, tail.subarray(Math.max(0, tail.length - ownBytes)));
    },
  };
}
