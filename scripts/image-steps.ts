/**
 * Goes the way of the Dockerfile without Docker: runs its COPY and RUN steps in clean directories, and checks what
 * comes out: its size, what is in it, what it says of itself (image-config.ts), and what its programs do, run as
 * containers run them (image-run.ts).
 *
 * `node scripts/image-steps.ts`. The exit code is 1 when something is not as it should be.
 */

import { execFileSync } from 'node:child_process';
import { chmod, copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { readDockerfile } from './dockerfile.ts';
import { faultsOfConfig, imageConfig, type PackageFacts } from './image-config.ts';
import { faultsOfProgram } from './image-run.ts';

const ROOT = join(import.meta.dirname, '..');
const MODULES_LIMIT_BYTES = 110e6;
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
const instructions = readDockerfile(await readFile(join(ROOT, 'Dockerfile'), 'utf8'));
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
  for (const { name, text } of instructions) {
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

async function examine({ root }: Stage): Promise<void> {
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

  // The base image has it there.
  await copyFile(process.execPath, join(root, 'usr/local/bin/node'));
  const facts = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as PackageFacts;
  const config = imageConfig(instructions);
  faults.push(...faultsOfConfig(config, facts));
  const [bin = ''] = Object.keys(facts.bin);
  faults.push(...(await faultsOfProgram({ root, config }, bin, (line) => console.log(line))));
}

async function sizeOf(directory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
