import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const run = promisify(execFile);

/** The output of a program that logs these lines and exits. */
async function said(program: string): Promise<string[]> {
  const source = `import { createLogger } from '${new URL('../../src/util/log.ts', import.meta.url)}';
    const log = createLogger('info');
    ${program}`;
  const { stderr } = await run(process.execPath, ['--input-type=module', '-e', source]);
  return stderr
    .trim()
    .split('\n')
    .map((line) => (line.startsWith('{') ? JSON.parse(line).msg : line));
}

test('the log is written when the process ends, and at once with an urgent line', async () => {
  expect(
    await said(`
      log.info('one'); log.info('two'); log.warn('three'); process.stderr.write('four\\n');
      log.info('five'); process.exit(0);`),
  ).toEqual(['one', 'two', 'three', 'four', 'five']);
});

test('the log is written soon when no line is urgent, and keeps no process alive for it', async () => {
  expect(
    await said(`
      log.info('one'); await new Promise((resolve) => setTimeout(resolve, 200));
      process.stderr.write('two\\n'); log.info('three');`),
  ).toEqual(['one', 'two', 'three']);
});
