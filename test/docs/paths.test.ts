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
  expect(missing).toEqual([]);
});
