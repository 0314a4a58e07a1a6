import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { runCli } from '../support/cli.ts';

/** What a real bash offers for the words so far, the last of which is being typed. */
function complete(script: string, words: readonly string[]): string[] {
  const typed = words.map((word) => `'${word}'`).join(' ');
  const ask = `COMP_WORDS=(${typed}); COMP_CWORD=${words.length - 1}; _voicemail_archiver; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync('bash', ['--norc', '-c', `${script}\n${ask}`], { encoding: 'utf8' })
    .trim()
    .split('\n');
}

it('completion bash lets bash complete commands, their parts, options and values', async () => {
  const { code, stdout, stderr } = await runCli(['completion', 'bash']);

  expect([code, stderr]).toEqual([0, '']);
  expect(complete(stdout, ['voicemail-archiver', 'st'])).toEqual(['start', 'status']);
  expect(complete(stdout, ['voicemail-archiver', 'status', '--st'])).toEqual(['--state']);
  expect(complete(stdout, ['voicemail-archiver', 'status', '--state', 'fa'])).toEqual(['failed']);
  expect(complete(stdout, ['voicemail-archiver', 'hold', 'rel'])).toEqual(['release']);
  expect(complete(stdout, ['voicemail-archiver', 'completion', 'f'])).toEqual(['fish']);
});

it('completion fish names every command, and an unknown shell is refused', async () => {
  const [{ stdout }, unknown, help] = await Promise.all([
    runCli(['completion', 'fish']),
    runCli(['completion', 'tcsh']),
    runCli(['--help']),
  ]);

  const named = [...stdout.matchAll(/use_subcommand -f -a (\S+)/g)].map(([, name]) => name);
  const helped = [...help.stdout.matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name);
  expect(named).toEqual(helped.filter((name) => name !== 'help'));
  expect(named.length).toBeGreaterThan(15);
  expect(unknown.code).toBe(2);
});
