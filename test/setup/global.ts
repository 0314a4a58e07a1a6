import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { findChromium } from '../support/browser.ts';
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

/** Starts the servers that the tests need, once per run, and stops them at its end. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const runDirectory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-tests-'));
  const [redis, postgres] = await Promise.all([startRedis(), startPostgres()]);
  project.provide('redisUrl', redis.url);
  project.provide('postgresUrl', postgres?.url);
  project.provide('runDirectory', runDirectory);
  for (const line of leftOut(postgres !== undefined)) console.log(line);
  return async () => {
    await Promise.all([redis.stop(), postgres?.stop(), rm(runDirectory, { recursive: true })]);
  };
}

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
    ...(findProgram('pgbouncer', [...searchPath(), '/usr/sbin'])
      ? []
      : ['Left out: PgBouncer, which is not installed (Debian: apt-get install pgbouncer).']),
    ...(findProgram('promtool', searchPath())
      ? []
      : ['Left out: the alert rules, as there is no promtool (Debian: apt-get install prometheus).']),
    ...(process.env.S3_TEST_ENDPOINT
      ? []
      : [
          'Left out: what needs a real S3 server (S3_TEST_ENDPOINT is not set); for the rest a small one in this process stands in.',
        ]),
  ];
}
