import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';

/** Characters of a server's output that are kept for the message when it does not start. */
const KEPT_OUTPUT = 4_000;

/** A running server. */
export interface ServerProcess {
  /** Sends it a signal, such as `SIGSTOP`. */
  signal(name: NodeJS.Signals): void;
  /** Ends it and waits until it is gone. */
  stop(signal: NodeJS.Signals): Promise<void>;
}

/** Starts a server and resolves when it says `ready` on one of its outputs. */
export async function startServer(
  command: string,
  args: readonly string[],
  ready: string,
  options: SpawnOptions = {},
): Promise<ServerProcess> {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  // A run that ends without its teardown (an exception, Ctrl-C twice) leaves nothing running either.
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const exited = once(child, 'exit').finally(() => process.off('exit', kill));
  try {
    await saysReady(child, exited, command, ready);
  } catch (error) {
    kill();
    throw error;
  }
  return {
    signal: (name) => void child.kill(name),
    async stop(signal) {
      child.kill(signal);
      await exited;
    },
  };
}

async function saysReady(
  child: ChildProcess,
  exited: Promise<unknown>,
  command: string,
  ready: string,
): Promise<void> {
  let output = '';
  const said = new Promise<void>((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output = (output + text).slice(-KEPT_OUTPUT);
        if (output.includes(ready)) resolve();
      });
    }
  });
  const ended = exited.then(
    () => Promise.reject(new Error(`${command} ended before it was ready:\n${output}`)),
    (error: Error) => Promise.reject(new Error(`${command} does not start: ${error.message}`)),
  );
  await Promise.race([said, ended]);
  // Its end is expected from now on.
  ended.catch(() => undefined);
}

/** A TCP port of the loopback address that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('the system gave no port');
  return address.port;
}

/** The path of a program in one of the directories, or `undefined`. */
export function findProgram(name: string, directories: readonly string[]): string | undefined {
  return directories.map((directory) => join(directory, name)).find(isExecutable);
}

/** The directories programs are looked for in. */
export function searchPath(): string[] {
  // The environment belongs to src/config in the product; this is the tests' own look at the machine.
  return (process.env.PATH ?? '').split(delimiter).filter((directory) => directory !== '');
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
