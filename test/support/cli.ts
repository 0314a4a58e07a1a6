/** The program as a user starts it: in its own processes, without variables of the test's environment that it reads. */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';

const ENTRY = join(import.meta.dirname, '../../src/cli.ts');

const { NODE_COMPILE_CACHE } = process.env;
/** For programs' environments: where Node keeps compiled code from one run to the next (see vitest.config.ts). */
export const COMPILE_CACHE = NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE };

/** How a run of the program ended. */
export interface CliRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** How to run it. */
export interface CliOptions {
  /** The whole environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory; without one, a directory that holds no `.env`. */
  readonly cwd?: string;
  /** Standard input, at once or as it comes; empty if not given. */
  readonly stdin?: string | Readable;
}

/** A program that runs until it is stopped. */
export interface RunningCli {
  readonly process: ChildProcessWithoutNullStreams;
  readonly pid: number;
  /** What it has written so far. */
  readonly stdout: string;
  readonly stderr: string;
  /** Its log lines so far. */
  readonly log: readonly Readonly<Record<string, unknown>>[];
  /** Resolves as soon as the condition holds; rejects when the program ends before. */
  waitFor(holds: (cli: RunningCli) => boolean): Promise<void>;
  /** Sends a signal. */
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<CliRun>;
}

/** Runs the program to its end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliRun> {
  return startCli(args, options).ended;
}

/** Starts the program. */
export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  const child = spawn(process.execPath, [ENTRY, ...args], {
    env: { ...COMPILE_CACHE, TMPDIR: tmpdir(), ...options.env },
    cwd: options.cwd ?? import.meta.dirname,
  });
  // A test run that ends early leaves nothing running.
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  let stdout = '';
  let stderr = '';
  const watchers = new Set<() => void>();
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    for (const watch of watchers) watch();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    for (const watch of watchers) watch();
  });
  // A program that ends without reading its input is no fault of the test's.
  child.stdin.on('error', () => {});
  if (options.stdin instanceof Readable) options.stdin.pipe(child.stdin);
  else child.stdin.end(options.stdin ?? '');
  const ended = once(child, 'close').then(([code]: (number | null)[]) => {
    process.off('exit', kill);
    return { code: code ?? null, stdout, stderr };
  });

  const running: RunningCli = {
    process: child,
    pid: child.pid ?? -1,
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    get log() {
      return stderr
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .flatMap((line) => parse(line));
    },
    async waitFor(holds) {
      const met = Promise.withResolvers<void>();
      const watch = () => {
        if (holds(running)) met.resolve();
      };
      watchers.add(watch);
      watch();
      try {
        await Promise.race([
          met.promise,
          ended.then((run) => {
            throw new Error(`the program ended with ${run.code}: ${run.stderr}`);
          }),
        ]);
      } finally {
        watchers.delete(watch);
      }
    },
    kill: (signal) => void child.kill(signal),
    ended,
  };
  return running;
}

/** The last line may not be whole yet. */
function parse(line: string): Readonly<Record<string, unknown>>[] {
  try {
    return [JSON.parse(line) as Record<string, unknown>];
  } catch {
    return [];
  }
}

/** Whether a log line with this message is there. */
export function hasLogged(message: string): (cli: RunningCli) => boolean {
  return ({ log }) => log.some(({ msg }) => msg === message);
}
