import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { VARIABLES } from '../../src/config/variables.ts';

const unit = readFileSync(
  join(import.meta.dirname, '../../deploy/systemd/voicemail-archiver.service'),
  'utf8',
);
const settings = [...unit.matchAll(/^(\w+)=(.*)$/gm)].map(([, name = '', value = '']) => ({ name, value }));
const valuesOf = (wanted: string) => settings.filter(({ name }) => name === wanted).map(({ value }) => value);

it('the unit sets variables that the program knows, and reads secrets from files that it is given', () => {
  const known = VARIABLES.flatMap(({ name, isSecret }) => (isSecret ? [name, `${name}_FILE`] : [name]));
  const environment = valuesOf('Environment').map((line) => line.split('='));
  const credentials = valuesOf('LoadCredential').map((line) => line.split(':')[0]);

  expect(environment.length).toBeGreaterThan(0);
  for (const [name, value = ''] of environment) {
    expect(known).toContain(name);
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
