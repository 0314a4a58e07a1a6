/** The program started through npm, as people and simple containers do: a stop sent to npm has to be a graceful one. */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { COMPILE_CACHE } from '../support/cli.ts';
import { embeddedQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory } from '../support/services.ts';

const ROOT = join(import.meta.dirname, '../..');
const TIMEOUT = { timeout: 120_000 };

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Starts an npm script; `said` resolves when a text has been written to either output. */
function npm(args: readonly string[], env: Readonly<Record<string, string>>) {
  const { PATH = '', HOME = '' } = process.env;
  const child: ChildProcessWithoutNullStreams = spawn('npm', ['run', ...args], {
    cwd: ROOT,
    env: { ...COMPILE_CACHE, PATH, HOME, ...env },
    // A group of its own, so that nothing is left of it whatever happens.
    detached: true,
  });
  cleanups.push(async () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch (error) {
      // Nothing of it was left.
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
    }
  });
  let output = '';
  let watch = () => {};
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      watch();
    });
  }
  /** All its processes have ended when no process holds its outputs any more. */
  const ended = once(child, 'close');
  return {
    child,
    ended,
    output: () => output,
    async said(text: string) {
      const { promise, resolve } = Promise.withResolvers<void>();
      watch = () => output.includes(text) && resolve();
      watch();
      await Promise.race([
        promise,
        ended.then(() => {
          throw new Error(`npm ended before it said ${text}:\n${output}`);
        }),
      ]);
    },
  };
}

async function service(): Promise<{ env: Record<string, string>; queue: string; sandbox: Sandbox }> {
  const [sandbox, directory] = await Promise.all([startSandbox(), temporaryDirectory()]);
  cleanups.push(
    () => directory.remove(),
    () => sandbox.close(),
  );
  const queue = join(directory.path, 'queue');
  await embeddedQueue(queue);
  return {
    sandbox,
    queue,
    env: {
      ...sandboxEnvironment(sandbox),
      QUEUE_URL: `embedded:${queue}`,
      ARCHIVE_URL: `file:${join(directory.path, 'archive')}`,
      SHUTDOWN_GRACE: '5s',
      HTTP_PORT: '0',
    },
  };
}

describe('SIGTERM to npm', () => {
  it('SIGTERM to npm ends "npm run cli -- start" gracefully', TIMEOUT, async () => {
    const { env, queue } = await service();
    const run = npm(['cli', '--', 'start'], env);
    await run.said('"taking sessions"');
    run.child.kill('SIGTERM');
    await run.ended;
    expect(run.output()).toContain('"stopped"');
    // What only a stop in good order takes away.
    expect(existsSync(join(queue, 'owner.json'))).toBe(false);
  });

  it('SIGTERM to npm ends "npm run demo"', TIMEOUT, async () => {
    const directory = await temporaryDirectory();
    cleanups.push(() => directory.remove());
    const run = npm(['demo', '--', '--dir', directory.path], {});
    await run.said('are being set up');
    run.child.kill('SIGTERM');
    await run.ended;
    expect(run.output()).toMatch(/interrupted; what was archived|stopped by SIGTERM/);
  });
});

it('the scripts that run the program leave no shell between npm and it', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  expect(scripts.cli).toMatch(/^exec node /);
  expect(scripts.demo).toMatch(/^exec node /);
});
