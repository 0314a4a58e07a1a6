import type { Redis } from 'ioredis';

/**
 * Sends the commands of one turn of the event loop by one system call. Sessions that are worked on at the same time ask
 * Redis for many small things, and a call costs more than what it sends. A command waits for nothing but the rest of the
 * turn; their order stays.
 */
export function gatherCommands(client: Redis): void {
  client.on('ready', () => {
    const { stream } = client;
    const write = stream.write.bind(stream);
    let isGathering = false;
    const gather = (...args: Parameters<typeof write>) => {
      if (!isGathering) {
        isGathering = true;
        stream.cork();
        setImmediate(() => {
          isGathering = false;
          stream.uncork();
        });
      }
      return write(...args);
    };
    stream.write = gather as typeof stream.write;
  });
}
