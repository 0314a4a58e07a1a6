import { execFile } from 'node:child_process';
import { copyFile, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = new URL('../', import.meta.url);
/** As `tsconfig.bench.json` names it. */
const OUTPUT = new URL('dist-bench/', ROOT);
const COMPILER = fileURLToPath(new URL('node_modules/typescript/bin/tsc', ROOT));

/**
 * Compiles the bench's programs and the product, as the package is compiled: a process that strips types by itself
 * holds a compiler of some 50 MB.
 *
 * @returns the directory of the compiled programs.
 */
export async function compilePrograms(): Promise<URL> {
  await rm(OUTPUT, { recursive: true, force: true });
  await promisify(execFile)(process.execPath, [
    COMPILER,
    '-p',
    fileURLToPath(new URL('tsconfig.bench.json', ROOT)),
  ]);
  // It has the version, and says that these are modules.
  await copyFile(new URL('package.json', ROOT), new URL('package.json', OUTPUT));
  return new URL('bench/', OUTPUT);
}
