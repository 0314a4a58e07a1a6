import type { Redis } from 'ioredis';

/** Commands wait so long for those of others (milliseconds), where there are others. */
const WAIT_MS = 2;

/**
 * Sends commands together by one system call. Sessions that are worked on at the same time ask Redis for many small
 * things, and a call costs more than what it sends. The commands of one turn of the event loop go out together, and while
 * others are likely to come, those of some milliseconds. Their order stays.
 *
 * @param mayWait asked at the end of a turn: whether others are likely to come.
 */
export function gatherCommands(client: Redis, mayWait: () => boolean): void {
  client.on('ready', () => {
    const { stream } = client;
    const write = stream.write.bind(stream);
    let isGathering = false;
    const send = () => {
      isGathering = false;
      stream.uncork();
    };
    const endTurn = () => {
      if (mayWait()) setTimeout(send, WAIT_MS);
      else send();
    };
    const gather = (...args: Parameters<typeof write>) => {
      if (!isGathering) {
        isGathering = true;
        stream.cork();
        setImmediate(endTurn);
      }
      return write(...args);
    };
    stream.write = gather as typeof stream.write;
  });
}
