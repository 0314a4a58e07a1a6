import { execFile, spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runInProcess } from '../support/in-process-command.ts';
import { temporaryDirectory } from '../support/services.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

/** What one has typed, and what the tabulator makes of its last word where only one thing fits. */
const UNIQUE = [
  ['voicemail-archiver stat', 'status'],
  ['voicemail-archiver status --st', '--state'],
  ['voicemail-archiver status --state fa', 'failed'],
  ['voicemail-archiver hold rel', 'release'],
  ['voicemail-archiver completion f', 'fish'],
] as const;

/**
 * Types into an interactive zsh on a terminal of its own, and prints the words that its tabulator has made. In place of
 * the program is a function that prints its arguments.
 */
const ZSH = `
zmodload zsh/zpty || exit 3
zpty terminal zsh -f -i
zpty -w terminal 'autoload -U compinit && compinit -u -D; voicemail-archiver() print -r "WORDS" "<$*>"; source '$1
for typed in "\${@:2}"; do
  zpty -w -n terminal "$typed"$'\t\n'
  zpty -r -m terminal seen '*WORDS <*>*' || exit 4
  print -r -- "\${\${seen##*WORDS <}%%>*}"
done
zpty -d terminal
`;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  directory = await temporaryDirectory();
  for (const shell of SHELLS) {
    const { code, stdout, stderr } = await runInProcess(['completion', shell]);
    expect([code, stderr]).toEqual([0, '']);
    await writeFile(join(directory.path, shell), stdout);
  }
});

afterAll(() => directory.remove());

function has(shell: Shell): boolean {
  return spawnSync(shell, ['-c', 'true']).status === 0;
}

async function run(shell: Shell, args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(shell, args, { cwd: directory.path });
  return stdout;
}

/** All that a shell offers for the last of the typed words. */
async function offers(shell: 'bash' | 'fish', typed: string): Promise<string[]> {
  if (shell === 'fish') {
    const lines = await run('fish', ['--no-config', '-c', `source ./fish; complete -C '${typed}'`]);
    return lines
      .trim()
      .split('\n')
      .map((line) => line.replace(/\t.*/, ''));
  }
  const words = typed.split(' ');
  const ask = `source ./bash; COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
    _voicemail_archiver; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return (await run('bash', ['--norc', '-c', ask])).trim().split('\n');
}

describe.each(['bash', 'fish'] as const)('completion %s', (shell) => {
  it.runIf(has(shell))('the shell completes commands, their parts, options and values', async () => {
    const offered = await Promise.all(UNIQUE.map(([typed]) => offers(shell, typed)));

    expect(offered).toEqual(UNIQUE.map(([, word]) => [word]));
    expect(await offers(shell, 'voicemail-archiver st')).toEqual(['start', 'status']);
  });

  it.runIf(has(shell))('the completion offers every command', async () => {
    const { stdout } = await runInProcess(['--help']);
    const helped = [...stdout.matchAll(/^ {2}([a-z]+) /gm)].map(([, name = '']) => name);
    const offered = await offers(shell, 'voicemail-archiver ');

    expect(helped.length).toBeGreaterThan(15);
    expect(offered).toEqual(expect.arrayContaining(helped.filter((name) => name !== 'help')));
  });
});

describe('completion zsh', () => {
  it.runIf(has('zsh'))('the shell completes commands, their parts, options and values', async () => {
    const typed = UNIQUE.map(([words]) => words);
    const completed = (await run('zsh', ['-f', '-c', ZSH, 'zsh', './zsh', ...typed])).split('\n');

    // zsh puts a space behind a word that is whole.
    expect(completed.slice(0, -1).map((line) => line.trimEnd())).toEqual(
      UNIQUE.map(([words, word]) => words.replace('voicemail-archiver ', '').replace(/\S+$/, word)),
    );
  });
});

it('completion for an unknown shell is refused', async () => {
  expect((await runInProcess(['completion', 'tcsh'])).code).toBe(2);
});
