/** Loaded into a program by `--import`, it writes the packages that were loaded into the file `LOADED_PACKAGES`. */

import { writeFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

const packages = new Set<string>();

registerHooks({
  load(url, context, next) {
    const name = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1];
    if (name !== undefined) packages.add(name);
    return next(url, context);
  },
});

const file = process.env.LOADED_PACKAGES;
if (file === undefined) throw new Error('LOADED_PACKAGES names no file');
process.once('exit', () => writeFileSync(file, JSON.stringify([...packages].sort())));
