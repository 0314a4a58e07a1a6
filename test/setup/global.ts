import { randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { findChromium } from '../support/browser.ts';
import { leftovers } from './leftovers.ts';
import { startPostgres } from './postgres.ts';
import { findProgram, searchPath } from './process.ts';
import { startRedis } from './redis.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** A Redis server of this run's own. */
    redisUrl: string;
    /** A PostgreSQL server of this run's own, where PostgreSQL is installed. */
    postgresUrl: string | undefined;
    /** A directory for what several test files share; removed when the run ends. */
    runDirectory: string;
  }
}

/**
 * Starts the servers that the tests need, once per run, and stops them at its end. A run that leaves processes, files
 * or buckets behind fails.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const runDirectory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-tests-'));
  const [redis, postgres] = await Promise.all([startRedis(), startPostgres()]);
  project.provide('redisUrl', redis.url);
  project.provide('postgresUrl', postgres?.url);
  project.provide('runDirectory', runDirectory);
  // From here on, since the servers' own directories go with the servers. Tests inherit both.
  const temporaryDirectory = join(runDirectory, 'tmp');
  await mkdir(temporaryDirectory);
  // A server that refuses to run as root has to get into its own directory there.
  await Promise.all([runDirectory, temporaryDirectory].map((directory) => chmod(directory, 0o711)));
  const bucketPrefix = `test-${randomBytes(4).toString('hex')}-`;
  Object.assign(process.env, { TMPDIR: temporaryDirectory, TEST_BUCKET_PREFIX: bucketPrefix });
  for (const line of leftOut(postgres !== undefined)) console.log(line);
  return async () => {
    const left = await leftovers({ root: project.config.root, temporaryDirectory, bucketPrefix });
    await Promise.all([redis.stop(), postgres?.stop(), rm(runDirectory, { recursive: true })]);
    if (left.length > 0) throw new Error(`the tests left behind:\n${left.join('\n')}`);
  };
}

/** Programs whose absence leaves a few tests out. */
const PROGRAMS = [
  { name: 'pgbouncer', tests: 'PgBouncer', install: 'Debian: apt-get install pgbouncer' },
  { name: 'promtool', tests: 'the alert rules', install: 'Debian: apt-get install prometheus' },
  { name: 'zsh', tests: 'completion in zsh', install: 'Debian: apt-get install zsh' },
  { name: 'fish', tests: 'completion in fish', install: 'Debian: apt-get install fish' },
  {
    name: 'systemd-analyze',
    tests: "the unit in systemd's eyes",
    install: 'Debian: apt-get install systemd',
  },
  { name: 'kubectl', tests: 'what Kustomize makes', install: 'kubernetes.io: Install Tools' },
];

/** What this run does not test, and why. */
function leftOut(hasPostgres: boolean): string[] {
  return [
    ...(hasPostgres
      ? []
      : ['Left out: the queue on PostgreSQL, which is not installed (Debian: apt-get install postgresql).']),
    ...(findChromium()
      ? []
      : [
          'Left out: the dashboard in a browser, as there is no Chromium (Debian: apt-get install chromium).',
        ]),
    ...PROGRAMS.filter(({ name }) => !findProgram(name, [...searchPath(), '/usr/sbin'])).map(
      ({ name, tests, install }) => `Left out: ${tests}, as there is no ${name} (${install}).`,
    ),
    ...(process.env.S3_TEST_ENDPOINT
      ? []
      : [
          'Left out: what needs a real S3 server (S3_TEST_ENDPOINT is not set); for the rest a small one in this process stands in.',
        ]),
  ];
}
