import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dependencyRulesText, FOLDERS, LIBRARIES } from '../../scripts/dependency-rules.ts';

const ROOT = join(import.meta.dirname, '../..');

/** What may not be imported, where, and what the linter says of it. */
const FORBIDDEN: readonly (readonly [title: string, file: string, specifier: string, message: string])[] = [
  ['domain imports nothing', 'src/domain/x.ts', '../util/json.ts', 'domain imports nothing of ours'],
  ['kore does not know the archive', 'src/kore/x.ts', '../storage/store.ts', 'kore imports'],
  ['storage does not know transfers', 'src/storage/s3/x.ts', '../../transfer/transfer.ts', 'storage imports'],
  ['jobs does not know backfills', 'src/jobs/x.ts', '../backfills/run.ts', 'jobs imports'],
  ['workers does not know the API', 'src/workers/x.ts', '../api/server.ts', 'workers imports'],
  [
    'notifications does not know workers',
    'src/notifications/x.ts',
    '../workers/worker.ts',
    'notifications imports',
  ],
  ['workers does not know notifications', 'src/workers/n.ts', '../notifications/send.ts', 'workers imports'],
  ['the audit log does not know the queue', 'src/audit-log/x.ts', '../jobs/consumer.ts', 'audit-log imports'],
  ['only the program puts its parts together', 'src/api/x.ts', '../runtime.ts', 'api imports'],
  [
    'browsers load nothing of the server',
    'src/page/x.js',
    '../operations/operations.ts',
    'page imports domain',
  ],
  ['browsers have no modules of Node', 'src/page/n.js', 'node:fs', 'page runs in browsers'],
  ['only the page draws', 'src/api/p.ts', 'preact', 'only page may import it'],
  ['only jobs talks to Redis', 'src/backfills/x.ts', 'ioredis', 'may import it'],
  ['only storage talks to S3', 'src/transfer/x.ts', '@aws-sdk/client-s3', 'may import it'],
  ['only util talks HTTP by undici', 'src/kore/u.ts', 'undici', 'only util may import it'],
  ['a new folder imports nothing of ours', 'src/newcomer/x.ts', '../storage/store.ts', 'it has no row'],
  ['a new folder imports no package', 'src/newcomer/p.ts', 'undici', 'it has no row'],
  [
    'a new file at the top imports nothing of ours',
    'src/other-runtime.ts',
    './storage/open.ts',
    'it has no row',
  ],
  ['a new file at the top imports no package', 'src/other-cli.ts', 'commander', 'it has no row'],
  ['the entry of the package knows no workers', 'src/index.ts', './workers/worker.ts', 'index.ts imports'],
  ['the runtime knows no commands', 'src/runtime.ts', './cli/run.ts', 'runtime.ts imports'],
  ['the runtime takes no client of its own', 'src/worker-runtime.ts', 'ioredis', 'only jobs and doctor'],
  ['only config reads cron expressions', 'src/api/c.ts', 'cron-parser', 'only config may import it'],
];

/** Imports that are fine. */
const ALLOWED = [
  ['src/kore/y.ts', '../domain/errors.ts'],
  ['src/transfer/y.ts', '../storage/store.ts'],
  ['src/notifications/y.ts', '../transfer/ssrf.ts'],
  ['src/audit-log/y.ts', '../storage/store.ts'],
  ['src/storage/s3/y.ts', '@aws-sdk/client-s3'],
  ['src/cli.ts', './cli/run.ts'],
  ['src/util/y.ts', 'undici'],
  ['src/newcomer/y.ts', 'node:fs'],
  ['src/newcomer/z.ts', './y.ts'],
] as const;

describe('the dependency rules', () => {
  let directory: string;
  let complaints: readonly string[];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dependency-rules-'));
    for (const file of ['biome.json', 'dependency-rules.json', '.gitignore']) {
      await copyFile(join(ROOT, file), join(directory, file));
    }
    for (const [file, specifier] of [...FORBIDDEN.map(([, ...rest]) => rest), ...ALLOWED]) {
      await mkdir(dirname(join(directory, file)), { recursive: true });
      await writeFile(join(directory, file), `import { x } from '${specifier}';\n\nexport const y = x;\n`);
    }
    const cycle = (other: string) =>
      `import { ${other} } from './${other}.ts';\n\nexport const z = ${other};\n`;
    await writeFile(join(directory, 'src/a.ts'), cycle('b'));
    await writeFile(join(directory, 'src/b.ts'), cycle('a'));
    complaints = await lint(directory);
  }, 120_000);

  afterAll(() => rm(directory, { recursive: true, force: true }));

  it.each(FORBIDDEN)('%s', (_title, file, _specifier, message) => {
    expect(complaints.filter((line) => line.includes(`/${file},`)).join()).toContain(message);
  });

  it('refuse a circle of imports', () => {
    expect(complaints.filter((line) => line.includes('noImportCycles')).join()).toContain('/src/a.ts,');
  });

  it.each(ALLOWED)('let %s import %s', (file) => {
    expect(complaints.filter((line) => line.includes(`/${file},`))).toEqual([]);
  });
});

describe('the tables of dependency rules', () => {
  it('are what the linter checks: "npm run docs:rules" wrote its file', async () => {
    expect(await readFile(join(ROOT, 'dependency-rules.json'), 'utf8')).toBe(dependencyRulesText());
  });

  it('have a row for every folder and file in src, and for nothing else', async () => {
    expect(Object.keys(FOLDERS).toSorted()).toEqual((await readdir(join(ROOT, 'src'))).toSorted());
  });

  it('name an owner for every package that the program depends on', async () => {
    const { dependencies, optionalDependencies } = JSON.parse(
      await readFile(join(ROOT, 'package.json'), 'utf8'),
    ) as Record<'dependencies' | 'optionalDependencies', Readonly<Record<string, string>>>;
    const owned = LIBRARIES.flatMap(({ packages }) => packages);
    const names = Object.keys({ ...dependencies, ...optionalDependencies });
    expect(names.filter((name) => !owned.some((of) => name === of || name.startsWith(`${of}/`)))).toEqual([]);
  });
});

/** Every complaint of the project's linter about the files in a directory, one a line. */
function lint(cwd: string): Promise<string[]> {
  const biome = join(ROOT, 'node_modules/@biomejs/biome/bin/biome');
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [biome, 'lint', '--reporter=github', '.'], { cwd }, (error, stdout) => {
      if (error && error.code !== 1) reject(error);
      else resolve(stdout.split('\n').filter((line) => line.startsWith('::error')));
    });
  });
}
