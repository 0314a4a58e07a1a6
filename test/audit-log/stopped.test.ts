import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { openStore } from '../../src/storage/open.ts';
import { ask } from '../support/api-server.ts';
import { KilledPrograms, urlOf } from '../support/killed-programs.ts';
import { NEEDS_REAL_S3, REAL_S3 } from '../support/s3.ts';
import { sandboxEnvironment } from '../support/services.ts';
import {
  openVersionedArchive,
  VERSIONED_ARCHIVE_KINDS,
  type VersionedArchive,
} from '../support/versioned-archives.ts';

const TIMEOUT_MS = 120_000;
const TOKEN = 'token-of-ada-1';
const never = new AbortController().signal;

for (const kind of VERSIONED_ARCHIVE_KINDS) {
  const isMissing = kind === 'locked bucket' && !REAL_S3;
  describe.skipIf(isMissing)(`in a ${kind}${isMissing ? ` (skipped: ${NEEDS_REAL_S3})` : ''}`, () => {
    let sandbox: Sandbox;
    let archive: VersionedArchive;
    let programs: KilledPrograms;

    beforeEach(async () => {
      [sandbox, archive] = await Promise.all([startSandbox(), openVersionedArchive(kind)]);
      programs = new KilledPrograms();
    });
    afterEach(async () => {
      await programs.close();
      await Promise.all([sandbox.close(), archive.close()]);
      vi.unstubAllEnvs();
    });

    it('the audit log holds what was done just before SIGTERM, by names and without tokens', {
      timeout: TIMEOUT_MS,
    }, async () => {
      const environment = {
        ...sandboxEnvironment(sandbox),
        ...archive.environment,
        ...awsEnvironment(),
        API_TOKEN: `ada:operate:${TOKEN}`,
      };
      const program = programs.start(environment);
      const url = await urlOf(program);
      const headers = { origin: url, host: new URL(url).host };
      const form = { ...headers, 'content-type': 'application/x-www-form-urlencoded' };
      const login = await ask(url, '/login', { method: 'POST', body: `token=${TOKEN}`, headers: form });
      const cookie = String(login.headers['set-cookie']).split(';')[0] ?? '';
      const done = [
        login,
        await ask(url, '/v1/pause', { method: 'PUT', headers: { ...headers, cookie } }),
        await ask(url, '/logout', { method: 'POST', headers: { ...headers, cookie } }),
      ];
      program.kill('SIGTERM');

      expect(done.map(({ status }) => status)).toEqual([303, 200, 303]);
      expect(await program.ended).toMatchObject({ code: 0 });
      const text = await auditLog({ ...environment, ...programs.queue });
      const lines = text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      expect(lines.map(({ action }) => action)).toEqual(['log-in', 'pause', 'log-out']);
      for (const line of lines) expect(line.actor).toMatchObject({ name: 'ada', via: 'dashboard' });
      for (const secret of [TOKEN, cookie.split('=')[1]]) {
        expect(secret).toMatch(/./);
        expect(text).not.toContain(secret);
        expect(programs.log).not.toContain(secret);
      }
    });
  });
}

/** What the SDK of a program on a bucket reads. */
function awsEnvironment(): Record<string, string> {
  const set = Object.entries(process.env).filter(([name]) => name.startsWith('AWS_'));
  return Object.fromEntries(set.map(([name, value = '']) => [name, value]));
}

async function auditLog(environment: Readonly<Record<string, string>>): Promise<string> {
  const store = await openStore(loadConfig(environment, { needs: ['kore'] }).archive);
  let text = '';
  for await (const { key } of store.list('audit/', never)) text += await store.read(key, never);
  await store.close();
  return text;
}
