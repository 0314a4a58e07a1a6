import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { extname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

/** A file of the operator's page, as it is served. */
export interface Asset {
  readonly contentType: string;
  readonly bytes: Buffer;
  readonly gzipped: Buffer;
}

/** All files that a browser needs for the page. */
export interface Assets {
  /** Changes with any of them; it is a part of their addresses, so that browsers may keep them for ever. */
  readonly version: string;
  /** By their paths below the address of the version. */
  readonly files: ReadonlyMap<string, Asset>;
}

/** Where the front end lies: beside this folder's parent, in the sources as in what is compiled of them. */
const FRONT_END = fileURLToPath(new URL('../../page/', import.meta.url));
/** The address of all files. */
export const ASSETS_PATH = '/page';

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** The libraries that the front end imports by name: where each is served, and the file of its package. */
const LIBRARIES: readonly (readonly [name: string, path: string, file: string, ending?: string])[] = [
  ['preact', 'vendor/preact.js', 'preact'],
  ['preact/hooks', 'vendor/preact-hooks.js', 'preact/hooks'],
  ['htm', 'vendor/htm.js', 'htm'],
  // The minified build is a classic script, half as large as the module: it becomes a module by what is added.
  ['uplot', 'vendor/uplot.js', 'uplot/dist/uPlot.iife.min.js', '\nexport default uPlot;\n'],
  ['uplot/style', 'vendor/uplot.css', 'uplot/dist/uPlot.min.css'],
];

const compress = promisify(gzip);
let reading: Promise<Assets> | undefined;

/** The path of a file of the page in this version. */
export function pageAddress(version: string, path: string): string {
  return `${ASSETS_PATH}/${version}/${path}`;
}

/** Reads and compresses the files, once for the life of the process: a change of them takes a restart. */
export function readAssets(): Promise<Assets> {
  reading ??= read().catch((error: unknown) => {
    reading = undefined;
    throw error;
  });
  return reading;
}

async function read(): Promise<Assets> {
  const [own, libraries] = await Promise.all([readOwn(), readLibraries()]);
  const sources = new Map([...own, ...libraries]);
  const hash = createHash('sha256');
  for (const [path, text] of sources) hash.update(`${path}\0${text}\0`);
  const version = hash.digest('hex').slice(0, 12);
  const files = await Promise.all(
    [...sources].map(async ([path, text]): Promise<[string, Asset]> => {
      const bytes = Buffer.from(path.endsWith('.js') ? withAddresses(text, version) : text);
      const contentType = CONTENT_TYPES[extname(path)] ?? 'application/octet-stream';
      return [path, { contentType, bytes, gzipped: await compress(bytes, { level: 9 }) }];
    }),
  );
  return { version, files: new Map(files) };
}

async function readOwn(): Promise<[string, string][]> {
  const entries = await readdir(FRONT_END, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile() && extname(entry.name) in CONTENT_TYPES)
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  return Promise.all(
    paths.map(
      async (path): Promise<[string, string]> => [
        relative(FRONT_END, path).split(sep).join('/'),
        await readFile(path, 'utf8'),
      ],
    ),
  );
}

function readLibraries(): Promise<[string, string][]> {
  return Promise.all(
    LIBRARIES.map(async ([, path, file, ending = '']): Promise<[string, string]> => {
      const text = await readFile(fileURLToPath(import.meta.resolve(file)), 'utf8');
      // Maps of the sources are not served.
      return [path, text.replace(/\n?\/\/# sourceMapping\w+=.*\s*$/, '') + ending];
    }),
  );
}

/** Browsers know addresses alone, so the names of libraries in import statements are replaced by theirs. */
function withAddresses(text: string, version: string): string {
  return text.replace(
    /(\bfrom\s*)(['"])([a-z/]+)\2/g,
    (statement, from: string, quote: string, name: string) => {
      const path = LIBRARIES.find(([library]) => library === name)?.[1];
      return path === undefined ? statement : `${from}${quote}${pageAddress(version, path)}${quote}`;
    },
  );
}
