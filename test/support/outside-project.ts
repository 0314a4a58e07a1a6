/** A small project of a user, outside this repository, that has installed the package as npm packs it. */

import { execFile } from 'node:child_process';
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

const TREE = join(import.meta.dirname, '../..');
const TREE_MODULES = join(TREE, 'node_modules');
/** All that the package is built from. */
const SOURCES = ['package.json', 'README.md', 'LICENSE', 'tsconfig.json', 'tsconfig.build.json', 'src'];
/** Where npm notes what is installed. */
const INSTALLED = '.package-lock.json';
/** npm as anybody runs it here, with this project's Node. */
const ENV = { ...process.env, PATH: [join(TREE_MODULES, '.bin'), process.env.PATH].join(delimiter) };

/** The project. */
export interface OutsideProject {
  /** Paths in the package. */
  readonly packed: readonly string[];
  /** Where it is installed. */
  readonly installed: string;
  /** Writes a file of the project. */
  write(name: string, text: string): Promise<void>;
  /** Runs a program, by default this Node, in the project's directory and with nothing of the test's environment. */
  run(
    args: readonly string[],
    program?: string,
  ): Promise<{ readonly stdout: string; readonly stderr: string }>;
  remove(): Promise<void>;
}

/** Packs, and installs what comes of it. */
export async function createOutsideProject(): Promise<OutsideProject> {
  const root = await mkdtemp(join(tmpdir(), 'voicemail-archiver-outside-'));
  const project = join(root, 'project');
  await mkdir(project);
  const [packed] = await Promise.all([pack(root), borrowModules(join(project, 'node_modules'))]);
  await writeFile(
    join(project, 'package.json'),
    '{ "name": "webhooks", "private": true, "type": "module" }\n',
  );
  await npm(project, 'install', '--prefer-offline', '--ignore-scripts', join(root, packed.filename));
  return {
    packed: packed.files.map(({ path }) => path),
    installed: join(project, 'node_modules/voicemail-archiver'),
    write: (name, text) => writeFile(join(project, name), text),
    run: (args, program = process.execPath) =>
      // Older versions of Node.js warn of what they take for experimental.
      execute(program, args, { cwd: project, env: { PATH: ENV.PATH, NODE_NO_WARNINGS: '1' } }),
    remove: () => rm(root, { recursive: true }),
  };
}

/** What npm tells of a package that it has made. */
interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

/** Packs a copy of the tree, which leaves the tree as it is. */
async function pack(destination: string): Promise<Packed> {
  const copy = join(destination, 'copy');
  await mkdir(copy);
  await Promise.all(SOURCES.map((name) => cp(join(TREE, name), join(copy, name), { recursive: true })));
  await symlink(TREE_MODULES, join(copy, 'node_modules'));
  const { stdout } = await npm(copy, 'pack', '--json', '--pack-destination', destination);
  const [packed]: Packed[] = JSON.parse(stdout.slice(stdout.indexOf('[')));
  if (!packed) throw new Error(`npm packed nothing: ${stdout}`);
  return packed;
}

/**
 * Gives a project all that is installed here, for npm to find it there: it takes away what the package does not
 * ask for, and fetches what is not there. By hard links, as it is hundreds of megabytes; where there can be none
 * (another file system, another `cp`), npm has to fetch it all.
 */
async function borrowModules(target: string): Promise<void> {
  // Files beginning with a dot are npm's and vitest's notes, which are written to in place.
  const names = (await readdir(TREE_MODULES)).filter((name) => !name.startsWith('.'));
  await mkdir(target);
  try {
    await execute('cp', ['-al', ...names.map((name) => join(TREE_MODULES, name)), target]);
    await copyFile(join(TREE_MODULES, INSTALLED), join(target, INSTALLED));
  } catch {
    await rm(target, { recursive: true });
  }
}

function npm(directory: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return execute('npm', [...args, '--no-audit', '--no-fund', '--no-update-notifier'], {
    cwd: directory,
    env: ENV,
  });
}

/** Files of a directory that hold one of the texts, by their paths. */
export async function filesWith(directory: string, texts: readonly string[]): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
  const found = await Promise.all(
    paths.map(async (path) => {
      const content = await readFile(path, 'utf8');
      return texts.some((text) => content.includes(text)) ? [path] : [];
    }),
  );
  return found.flat();
}

/** This project's own root, which no packed file may name. */
export const TREE_ROOT = TREE;
/** This project's TypeScript compiler. */
export const TSC = join(TREE_MODULES, '.bin/tsc');
