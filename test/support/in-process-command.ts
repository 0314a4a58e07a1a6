/**
 * Commands within the test's own process: what they do, write and end with, without the second of computing that the
 * start of a program costs. For what belongs to a process (signals, a crash, standard streams) see cli.ts.
 */

import { Readable, Writable } from 'node:stream';
import { runCommand } from '../../src/cli/run.ts';
import type { CliOptions, CliRun } from './cli.ts';

/** Runs a command to its end. Relative paths among its arguments mean nothing: it has no directory of its own. */
export async function runInProcess(args: readonly string[], options: CliOptions = {}): Promise<CliRun> {
  const stdout = collect();
  const stderr = collect();
  const { stdin = '' } = options;
  const code = await runCommand({
    argv: ['node', 'voicemail-archiver', ...args],
    env: { ...options.env },
    cwd: () => options.cwd ?? import.meta.dirname,
    exit() {
      throw new Error('a command ends by itself');
    },
    // Nobody sends signals to it.
    on() {},
    stdin: stdin instanceof Readable ? stdin : Readable.from(stdin === '' ? [] : [Buffer.from(stdin)]),
    stdout: stdout.stream,
    stderr: { isTTY: false, write: (text: string | Uint8Array) => stderr.stream.write(text) },
  });
  return { code, stdout: stdout.text(), stderr: stderr.text() };
}

function collect(): { readonly stream: Writable; text(): string } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      done();
    },
  });
  return { stream, text: () => Buffer.concat(chunks).toString() };
}
