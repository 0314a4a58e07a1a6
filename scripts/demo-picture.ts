/** `npm run docs:demo`: runs the demo and takes docs/demo.png, a picture of what it shows in a terminal. */

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { findChromium, openBrowser } from '../test/support/browser.ts';

const ROOT = join(import.meta.dirname, '..');
const PICTURE = join(ROOT, 'docs/demo.png');
const COLUMNS = 118;
/** Lines of the result that are shown; the rest of the archive's tree looks like them. */
const RESULT_LINES = 14;

const executable = findChromium();
if (executable === undefined)
  throw new Error('this needs Chromium: install it (Debian: apt-get install chromium)');

const directory = await mkdtemp(join(tmpdir(), 'voicemail-demo-'));
const demo = spawn(process.execPath, [join(ROOT, 'src/cli.ts'), 'demo'], { cwd: directory });
const [result, progress] = await Promise.all([text(demo.stdout), text(demo.stderr)]);
const shown = [
  '$ npm run demo',
  '',
  ...progress.trimEnd().split('\n'),
  ...result.trimEnd().split('\n').slice(0, RESULT_LINES),
  '      ...',
  '',
  result.trimEnd().split('\n').at(-1) ?? '',
]
  .map((line) => (line.length > COLUMNS ? `${line.slice(0, COLUMNS - 1)}…` : line))
  .join('\n');

const browser = await openBrowser(executable);
const page = await browser.context.newPage();
await page.setContent(
  '<pre style="display:inline-block;margin:0;padding:20px 24px;background:#16181d;color:#d8dee9;' +
    "font:14px/1.45 'DejaVu Sans Mono',monospace;border-radius:8px\"></pre>",
);
await page.locator('pre').evaluate((element, content) => {
  element.textContent = content;
}, shown);
await page.locator('pre').screenshot({ path: PICTURE, omitBackground: true });
await browser.close();
await rm(directory, { recursive: true });
