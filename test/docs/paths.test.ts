/** What the documents for developers point at is there: files, folders, npm scripts. */

import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const DOCUMENTS = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'deploy/README.md'].concat(
  globSync('docs/**/*.md', { cwd: ROOT }),
);
const SCRIPTS: object = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).scripts;

/** Files and folders of the repository in code spans. Secrets are made by whoever runs it. */
const PATH = /`((?:src|test|bench|scripts|deploy(?!\/compose\/secrets\/)|docs)\/[\w./-]+)`/g;
/** Sources as docs/architecture.md names them: from `src/` on. */
const SOURCE = /`([a-z][\w-]*\/[\w./-]+\.ts)`/g;
/** A bare file name: it lies in a folder that its paragraph names, in the document's, in `src` or at the top. */
const BARE_FILE = /`([\w.-]+\.(?:ts|js|mjs|sh|css|html|ya?ml))`/g;
const FOLDER = /`([\w./-]*\/)[\w.-]*`/g;
const LINK = /\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)/g;
const SCRIPT = /\bnpm run ([\w:-]+)/g;

it.each(DOCUMENTS)('%s names files and npm scripts that are there', (document) => {
  const text = readFileSync(join(ROOT, document), 'utf8');
  const named = (pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, name = '']) => name);
  const missing = [
    ...named(PATH).filter((path) => !existsSync(join(ROOT, path))),
    ...named(LINK).filter((path) => !existsSync(join(ROOT, dirname(document), path))),
    ...named(SCRIPT).filter((name) => !(name in SCRIPTS)),
    ...(document === 'docs/architecture.md' ? named(SOURCE) : []).filter(
      (path) => !existsSync(join(ROOT, path)) && !existsSync(join(ROOT, 'src', path)),
    ),
  ];
  for (const paragraph of text.split(/\n\s*\n/)) {
    const folders = [...paragraph.matchAll(FOLDER)].map(([, folder = '']) => folder);
    const places = [
      '.',
      'src',
      dirname(document),
      ...folders,
      ...folders.map((folder) => join('src', folder)),
    ];
    for (const [, name = ''] of paragraph.matchAll(BARE_FILE)) {
      // Names of packages may look like those of files.
      const isPackage = existsSync(join(ROOT, 'node_modules', name));
      if (!isPackage && !places.some((place) => existsSync(join(ROOT, place, name)))) missing.push(name);
    }
  }
  expect(missing).toEqual([]);
});
