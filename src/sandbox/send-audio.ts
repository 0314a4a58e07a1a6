import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AudioSource } from './audio-source.ts';
import { dropConnection, type Exchange, untilGone } from './exchange.ts';
import type { ByteRange } from './range.ts';
import type { MediaFault } from './spec.ts';

const CHUNK_BYTES = 64 * 1024;
/** A slow body trickles in so many portions a second. */
const PORTIONS_PER_SECOND = 20;

/**
 * Sends these bytes of the file as the body of an answer whose head is out already, no faster than the other
 * side takes them, and in the way the fault says.
 */
export async function sendAudio(
  exchange: Exchange,
  source: AudioSource,
  { start, end }: ByteRange,
  fault: MediaFault,
): Promise<void> {
  const { response, signal } = exchange;
  const { breakAfterBytes: breakAt = Number.POSITIVE_INFINITY, bytesPerSecond } = fault;
  const stallAt = fault.stallAfterBytes ?? Number.POSITIVE_INFINITY;
  const length = end - start;
  const last = Math.min(length, breakAt, stallAt);
  const portion =
    bytesPerSecond === undefined
      ? CHUNK_BYTES
      : Math.min(CHUNK_BYTES, Math.max(1, Math.floor(bytesPerSecond / PORTIONS_PER_SECOND)));

  response.flushHeaders();
  for (let sent = 0; sent < last; ) {
    signal.throwIfAborted();
    const count = Math.min(portion, last - sent);
    const taken = response.write(source.slice(start + sent, start + sent + count));
    sent += count;
    exchange.update({ bytesSent: sent });
    if (!taken) await once(response, 'drain', { signal });
    if (bytesPerSecond !== undefined) await sleep((count / bytesPerSecond) * 1000, undefined, { signal });
  }

  if (stallAt <= Math.min(length, breakAt)) return untilGone(exchange);
  if (breakAt > length) response.end();
  else if (fault.breakBy === 'reset') response.socket?.resetAndDestroy();
  else dropConnection(exchange);
}
