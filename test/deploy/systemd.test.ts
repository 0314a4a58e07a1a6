import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { VARIABLES } from '../../src/config/variables.ts';
import { findProgram, searchPath } from '../setup/process.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { temporaryDirectory } from '../support/services.ts';

const analyze = findProgram('systemd-analyze', searchPath());
const ROOT = join(import.meta.dirname, '../..');
const unit = readFileSync(join(ROOT, 'deploy/systemd/voicemail-archiver.service'), 'utf8');
/** Each takes away what archiving does not need: systemd.exec(5). */
const HARDENING: Readonly<Record<string, readonly string[]>> = {
  DynamicUser: ['yes'],
  NoNewPrivileges: ['yes'],
  CapabilityBoundingSet: [''],
  AmbientCapabilities: [''],
  ProtectSystem: ['strict'],
  ProtectHome: ['yes'],
  ProtectProc: ['invisible'],
  ProtectKernelTunables: ['yes'],
  ProtectKernelModules: ['yes'],
  ProtectKernelLogs: ['yes'],
  ProtectControlGroups: ['yes'],
  PrivateTmp: ['yes'],
  PrivateDevices: ['yes'],
  PrivateUsers: ['yes'],
  RestrictAddressFamilies: ['AF_INET AF_INET6 AF_UNIX'],
  RestrictNamespaces: ['yes'],
  RestrictSUIDSGID: ['yes'],
  LockPersonality: ['yes'],
  SystemCallFilter: ['@system-service', '~@privileged @resources'],
  UMask: ['0077'],
  StateDirectoryMode: ['0700'],
};
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

it('the unit starts a command that there is, by the path where npm puts the program', async () => {
  const { bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    bin: Record<string, string>;
  };
  const [name = ''] = Object.keys(bin);
  const [start = '', ...others] = valuesOf('ExecStart');
  const [program, command = '', ...options] = start.split(' ');
  const worker = /ExecStart=\.\.\. (\w+)\./.exec(unit)?.[1] ?? '';

  expect(others).toEqual([]);
  expect([program, options]).toEqual([`/usr/local/bin/${name}`, []]);
  for (const one of [command, worker]) {
    const { code, stdout } = await runInProcess([one, '--help']);
    expect([code, stdout]).toEqual([0, expect.stringContaining(`Usage: ${name} ${one} `)]);
  }
});

it('the unit configures a program that starts, with the settings that its first lines ask for', async () => {
  const directory = await temporaryDirectory();
  try {
    const own = valuesOf('Environment').map((line) => line.split('='));
    for (const credential of valuesOf('LoadCredential'))
      await writeFile(join(directory.path, credential.split(':')[0] ?? ''), 'a secret\n');
    const config = loadConfig(
      {
        ...{ KORE_HOST: 'kore.example', KORE_BOT_ID: 'st-1', KORE_CLIENT_ID: 'cs-1' },
        ...Object.fromEntries(own.map(([name, value = '']) => [name, value.replace(/^%d/, directory.path)])),
      },
      { needs: ['kore'] },
    );

    expect(config.warnings).toEqual([]);
    expect(config.kore).toBeDefined();
    // What it writes lies in the one directory that systemd gives it.
    const state = `%S/${valuesOf('StateDirectory')[0]}`;
    const written = own.filter(([name]) => /^(QUEUE|ARCHIVE)_URL$/.test(name ?? ''));
    expect(written).toHaveLength(2);
    for (const [, value] of written) expect(value).toMatch(new RegExp(`:${state}/`));
    expect(valuesOf('WorkingDirectory')).toEqual([state]);
  } finally {
    await directory.remove();
  }
});

it('the unit leaves the program no rights that it does not need, and time to end what it has begun', () => {
  for (const [name, values] of Object.entries(HARDENING)) expect(valuesOf(name), name).toEqual(values);
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
