import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ERROR_GUIDE } from '../../src/domain/error-guide.ts';
import { ERROR_CODES } from '../../src/domain/errors.ts';
import { FAILURE_RULES } from '../../src/workers/failure-policy.ts';

const WAITS = {
  sessionWaitMs: 'SESSION_WAIT',
  recordingWaitMs: 'RECORDING_WAIT',
  retryWaitMs: 'RETRY_WAIT',
  forever: 'forever',
  never: undefined,
} as const;

test('docs/operations.md has each error code as the program explains it', () => {
  const docs = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
  const rows = docs
    .split('\n')
    .filter((line) => /^\| `[A-Z_]+` \|.*\|.*\|$/.test(line) && line.includes(' | '));
  const table = rows.filter((row) => ERROR_CODES.some((code) => row.startsWith(`| \`${code}\` |`)));
  expect(table).toEqual(
    ERROR_CODES.map((code) => `| \`${code}\` | ${ERROR_GUIDE[code].meaning} | ${ERROR_GUIDE[code].fix} |`),
  );
});

test('each error code waits as long as docs/operations.md says', () => {
  const said = Object.fromEntries(ERROR_CODES.map((code) => [code, ERROR_GUIDE[code].waits]));
  const done = Object.fromEntries(ERROR_CODES.map((code) => [code, WAITS[FAILURE_RULES[code].waits]]));
  expect(said).toEqual(done);
});
