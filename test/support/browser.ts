/** A real browser, where there is one. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium } from 'playwright-core';
import { findProgram, searchPath } from '../setup/process.ts';

/** Debian's name of it, and that of others. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome'] as const;

/** The path of a Chromium on this machine, or `undefined`. */
export function findChromium(): string | undefined {
  return NAMES.map((name) => findProgram(name, searchPath())).find((path) => path !== undefined);
}

/** Starts a browser without a past, that calls nobody but who a page makes it call. */
export async function openBrowser(
  executablePath: string,
): Promise<{ context: BrowserContext; close(): Promise<void> }> {
  const profile = await mkdtemp(join(tmpdir(), 'voicemail-archiver-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    viewport: { width: 1280, height: 720 },
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
  return {
    context,
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}
