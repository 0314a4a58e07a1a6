/** A real browser, where there is one. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, type BrowserContext, chromium } from 'playwright-core';
import { findProgram, searchPath } from '../setup/process.ts';

/** Debian's name of it, and that of others. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome'] as const;

/** The reason in the title of a test that is skipped without a browser. */
export const NEEDS_CHROMIUM = 'needs Chromium (Debian: apt-get install chromium)';

/** The path of a Chromium on this machine, or `undefined`. */
export function findChromium(): string | undefined {
  return NAMES.map((name) => findProgram(name, searchPath())).find((path) => path !== undefined);
}

/** A browser, and a window of it with cookies of its own. */
export interface OpenBrowser {
  readonly browser: Browser;
  readonly context: BrowserContext;
  close(): Promise<void>;
}

/** Starts a browser with an empty profile and without requests of its own. */
export async function openBrowser(executablePath: string): Promise<OpenBrowser> {
  // Chromium and its libraries (PulseAudio's, for one) leave files behind, some of them after it has ended.
  const temporaryDirectory = await mkdtemp(join(tmpdir(), 'browser-'));
  const removeFiles = () => rm(temporaryDirectory, { recursive: true, force: true, maxRetries: 10 });
  const browser = await chromium.launch({
    executablePath,
    env: { ...process.env, TMPDIR: temporaryDirectory },
    headless: true,
    // Chromium's own sandbox refuses to work for root.
    chromiumSandbox: process.getuid?.() !== 0,
    args: [
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 } });
  return { browser, context, close: () => browser.close().finally(removeFiles) };
}
