import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { VARIABLES } from '../../src/config/variables.ts';
import { findProgram, searchPath } from '../setup/process.ts';
import { temporaryDirectory } from '../support/services.ts';

const analyze = findProgram('systemd-analyze', searchPath());
const unit = readFileSync(
  join(import.meta.dirname, '../../deploy/systemd/voicemail-archiver.service'),
  'utf8',
);
const settings = [...unit.matchAll(/^(\w+)=(.*)$/gm)].map(([, name = '', value = '']) => ({ name, value }));
const valuesOf = (wanted: string) => settings.filter(({ name }) => name === wanted).map(({ value }) => value);

/** Read by Node and by the C library. */
const OTHERS = ['NODE_OPTIONS', 'MALLOC_MMAP_THRESHOLD_'];

it('the unit sets variables that the program knows, and reads secrets from files that it is given', () => {
  const known = VARIABLES.flatMap(({ name, isSecret }) => (isSecret ? [name, `${name}_FILE`] : [name]));
  const environment = valuesOf('Environment').map((line) => line.split('='));
  const credentials = valuesOf('LoadCredential').map((line) => line.split(':')[0]);

  expect(environment.length).toBeGreaterThan(0);
  for (const [name, value = ''] of environment) {
    expect([...known, ...OTHERS]).toContain(name);
    if (value.startsWith('%d/')) expect(credentials).toContain(value.slice('%d/'.length));
  }
});

it('the unit leaves the program no rights that it does not need, and time to end what it has begun', () => {
  expect(valuesOf('DynamicUser')).toEqual(['yes']);
  expect(valuesOf('ProtectSystem')).toEqual(['strict']);
  expect(valuesOf('CapabilityBoundingSet')).toEqual(['']);
  expect(valuesOf('NoNewPrivileges')).toEqual(['yes']);
  expect(valuesOf('RestartPreventExitStatus')).toEqual(['2']);
  expect(Number(valuesOf('TimeoutStopSec')[0])).toBeGreaterThan(30);
});

it.runIf(analyze)('systemd takes the unit without a word, and finds little to attack', async () => {
  const directory = await temporaryDirectory();
  const file = join(directory.path, 'voicemail-archiver.service');
  try {
    // A program that is there: this machine has no installed one.
    await writeFile(file, unit.replace('/usr/local/bin/voicemail-archiver', process.execPath));

    const ask = (...args: string[]) => spawnSync(analyze ?? '', [...args, file], { encoding: 'utf8' });
    // A setting that it doesn't know is a mere remark.
    const remarks = ask('verify').stderr.split('\n');
    expect(remarks.filter((line) => line.includes('voicemail-archiver'))).toEqual([]);
    expect(ask('security', '--offline=true', '--no-pager').stdout).toMatch(
      /Overall exposure level for \S+: [01]\.\d OK/,
    );
  } finally {
    await directory.remove();
  }
});
