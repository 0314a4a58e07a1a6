/**
 * Goes the way of the Dockerfile without Docker: runs its COPY and RUN steps in clean directories, and checks what
 * comes out: its size, what is in it, and that the program starts as the image's user in a tree that it can't write to.
 *
 * `node scripts/image-steps.ts`. The exit code is 1 when something is not as it should be.
 */

import { execFile, execFileSync } from 'node:child_process';
import { chmod, copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import { readDockerfile } from './dockerfile.ts';

const ROOT = join(import.meta.dirname, '..');
const MODULES_LIMIT_BYTES = 110e6;
const USER = 1000;
/** What has no place in an image that archives. */
const UNWANTED = [
  'typescript',
  'vitest',
  'fauxqs',
  'playwright-core',
  '@electric-sql',
  '@fastify/swagger-ui',
];

/** A stage of the build as it lies on this machine. */
interface Stage {
  /** What would be `/` in the image. */
  readonly root: string;
  directory: string;
  readonly environment: Record<string, string>;
}

const top = await mkdtemp(join(tmpdir(), 'voicemail-image-'));
await chmod(top, 0o755);
const faults: string[] = [];
try {
  const image = await build();
  await examine(image);
} finally {
  await rm(top, { recursive: true, force: true });
}
for (const fault of faults) console.error(`not as it should be: ${fault}`);
process.exitCode = faults.length > 0 ? 1 : 0;

async function build(): Promise<Stage> {
  const stages = new Map<string, Stage>();
  let stage: Stage | undefined;
  for (const { name, text } of readDockerfile(await readFile(join(ROOT, 'Dockerfile'), 'utf8'))) {
    if (name === 'FROM') {
      stage = { root: join(top, `stage-${stages.size}`), directory: '/', environment: {} };
      await mkdir(join(stage.root, 'usr/local/bin'), { recursive: true });
      stages.set(/ AS (\S+)$/i.exec(text)?.[1] ?? 'image', stage);
    } else if (stage) {
      await step(stage, name, text, stages);
    }
  }
  const image = stages.get('image');
  if (!image) throw new Error('the last stage of the Dockerfile has a name: it is the image');
  return image;
}

async function step(
  stage: Stage,
  name: string,
  text: string,
  stages: ReadonlyMap<string, Stage>,
): Promise<void> {
  switch (name) {
    case 'WORKDIR':
      stage.directory = text;
      await mkdir(join(stage.root, text), { recursive: true });
      return;
    case 'ARG':
    case 'ENV':
      for (const [, key = '', quoted, plain] of text.matchAll(/(\w+)=(?:"([^"]*)"|(\S*))/g)) {
        stage.environment[key] = quoted ?? plain ?? '';
      }
      return;
    case 'COPY':
      return copy(stage, text.split(/\s+/), stages);
    case 'RUN':
      console.log(`RUN ${text}`);
      // The only difference to an image: absolute paths are those of the stage.
      execFileSync('sh', ['-ec', text.replaceAll(/(?<=^|\s)\/(?=app|usr|var)/g, `${stage.root}/`)], {
        cwd: join(stage.root, stage.directory),
        env: {
          PATH: process.env.PATH,
          HOME: process.env.HOME,
          ...stage.environment,
          npm_config_loglevel: 'error',
        },
        stdio: ['ignore', 'ignore', 'inherit'],
      });
  }
}

async function copy(
  stage: Stage,
  words: readonly string[],
  stages: ReadonlyMap<string, Stage>,
): Promise<void> {
  const from = words.find((word) => word.startsWith('--from='))?.slice('--from='.length);
  const paths = words.filter((word) => !word.startsWith('--'));
  const target = paths.at(-1) ?? '';
  const source = from === undefined ? ROOT : stages.get(from)?.root;
  if (source === undefined) throw new Error(`COPY --from=${from}: there is no such stage`);
  const destination = join(stage.root, resolve(stage.directory, target));
  for (const path of paths.slice(0, -1)) {
    const into = target.endsWith('/') ? join(destination, path.replace(/.*\//, '')) : destination;
    await mkdir(dirname(into), { recursive: true });
    await cp(join(source, path), into, { recursive: true, verbatimSymlinks: true });
  }
}

async function examine({ root, environment }: Stage): Promise<void> {
  const modules = join(root, 'app/node_modules');
  const bytes = await sizeOf(modules);
  console.log(`node_modules: ${(bytes / 1e6).toFixed(1)} MB`);
  if (bytes > MODULES_LIMIT_BYTES)
    faults.push(`node_modules holds ${bytes} bytes, ${MODULES_LIMIT_BYTES} are allowed`);
  const found = await Promise.all(
    UNWANTED.map(async (name) => ((await exists(join(modules, name))) ? [name] : [])),
  );
  for (const name of found.flat()) faults.push(`the package ${name} is in the image`);
  const sources = (await readdir(join(root, 'app/dist'), { recursive: true })).filter((name) =>
    name.endsWith('.ts'),
  );
  if (sources.length > 0) faults.push(`TypeScript is in the image: ${sources.slice(0, 3).join(', ')}`);

  // As the image has it: on the path, of another user than the one who runs it.
  await copyFile(process.execPath, join(root, 'usr/local/bin/node'));
  const { NODE_ENV = '', REQUIRE_STORAGE = '' } = environment;
  const env = { PATH: `${join(root, 'usr/local/bin')}:/usr/bin:/bin`, NODE_ENV, REQUIRE_STORAGE };
  const isRoot = process.getuid?.() === 0;
  if (!isRoot)
    console.log('not run as root, so the program is run as the same user, in a tree that it may write to');
  const run = async (args: readonly string[], more: Readonly<Record<string, string>> = {}) =>
    promisify(execFile)('voicemail-archiver', args, {
      cwd: join(root, 'var/lib/voicemail-archiver'),
      env: { ...env, ...more },
      ...(isRoot && { uid: USER, gid: USER }),
    }).then(
      ({ stdout }) => ({ code: 0, output: stdout }),
      ({ code, stdout, stderr }) => ({ code: code as number, output: `${stdout}${stderr}` }),
    );
  const before = await timesOf(join(root, 'app/dist'));

  await expectRun('--version', run(['--version']), 0, /^\d+\.\d+\.\d+$/m);
  await expectRun('doctor without a configuration', run(['doctor']), 1, /KORE_HOST: is required/);
  const kore = {
    KORE_HOST: 'kore.example',
    KORE_BOT_ID: 'st-1',
    KORE_CLIENT_ID: 'cs-1',
    KORE_CLIENT_SECRET: 'secret',
  };
  const embedded = { QUEUE_URL: 'embedded:queue', ARCHIVE_URL: 'file:archive', HTTP_PORT: '0' };
  await expectRun(
    'start with an embedded queue',
    run(['start'], { ...kore, ...embedded }),
    1,
    /npm install @electric-sql\/pglite/,
  );
  if ((await timesOf(join(root, 'app/dist'))) !== before)
    faults.push('the program has written to its own directory');
}

async function expectRun(
  what: string,
  run: Promise<{ readonly code: number; readonly output: string }>,
  code: number,
  says: RegExp,
): Promise<void> {
  const ended = await run;
  if (ended.code === code && says.test(ended.output)) console.log(`${what}: as it should be`);
  else faults.push(`${what} ended with ${ended.code} and said: ${ended.output}`);
}

async function sizeOf(directory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}

/** The names and times of all files below a directory, as one text. */
async function timesOf(directory: string): Promise<string> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const times = entries.map(async (entry) => {
    const path = join(entry.parentPath, entry.name);
    return `${relative(directory, path)} ${(await stat(path)).mtimeMs}`;
  });
  return (await Promise.all(times)).sort().join('\n');
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
