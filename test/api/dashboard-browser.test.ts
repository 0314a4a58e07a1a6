import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Api, createApi } from '../../src/api/server.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { apiTokens } from '../support/api.ts';
import { findChromium, openBrowser } from '../support/browser.ts';
import { expectNothingSecret } from '../support/pipeline.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const TOKEN = 'a-token-for-people-0123456789';
/** Longer than a page takes on a busy machine. */
const PAGE_TIMEOUT_MS = 60_000;
const TEST_TIMEOUT_MS = 240_000;
const CODE = 'SESSION_NOT_FOUND';
const SCREENSHOT = fileURLToPath(new URL('../../docs/dashboard.png', import.meta.url));

const chromium = findChromium();
const reason = chromium === undefined ? ' (Chromium is not installed)' : '';

describe.skipIf(chromium === undefined)(`the dashboard in a browser${reason}`, () => {
  let sandbox: Sandbox;
  let queue: TestQueue;
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
  let runtime: Runtime;
  let worker: SessionWorker;
  let api: Api;
  let url: string;
  let browser: Awaited<ReturnType<typeof openBrowser>>;

  beforeAll(async () => {
    sandbox = await startSandbox();
    [queue, directory] = await Promise.all([createTestQueue('redis'), temporaryDirectory()]);
    const environment = { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}` };
    const { config, kore } = testConfig(environment, queue.config);
    runtime = await openRuntime(config, silent);
    worker = runtime.startWorker(kore);
    await worker.ready();
    api = createApi({
      operations: runtime.operations,
      queue: runtime.queue,
      check: (signal) => runtime.check(signal),
      http: { ...config.http, tokens: apiTokens(TOKEN) },
      defaultBotId: config.defaultBotId,
      log: silent,
    });
    ({ url } = await api.listen());
    browser = await openBrowser(chromium ?? '');
  });

  afterAll(async () => {
    await browser?.close();
    await api?.close();
    await worker?.stop();
    await runtime?.close();
    await Promise.all([queue.remove(), directory.remove(), sandbox.close()]);
  });

  it(
    'lets a person log in, find a failed session, retry it and see it archived',
    async () => {
      const botId = sandbox.botId;
      const fine = Array.from({ length: 6 }, () => sandbox.addSession());
      const unavailable = sandbox.addSession({ statuses: ['failed'] });
      // Kore does not know it yet.
      const failing = randomBytes(12).toString('hex');
      await runtime.operations.enqueue([...fine, unavailable].map((sessionId) => ({ sessionId, botId })));
      await Promise.all([...fine, unavailable].map(ends));
      await runtime.operations.enqueue([{ sessionId: failing, botId }]);
      await ends(failing);
      sandbox.addSession({ sessionId: failing });
      const page = await browser.context.newPage();
      page.setDefaultTimeout(PAGE_TIMEOUT_MS);
      const wentTo: string[] = [];
      page.on('request', (request) => wentTo.push(request.url()));

      await page.goto(`${url}/dashboard`);
      expect(new URL(page.url()).pathname).toBe('/dashboard/login');
      await page.getByLabel('API token').fill('not the token');
      await page.getByRole('button', { name: 'Log in' }).click();
      await page.getByRole('alert').waitFor();
      await page.getByLabel('API token').fill(TOKEN);
      await page.getByRole('button', { name: 'Log in' }).click();

      await page
        .getByRole('link', { name: /Sessions/ })
        .first()
        .click();
      await page
        .getByRole('link', { name: /failed/i })
        .first()
        .click();
      await page.getByText(`${failing} · ${CODE}`).first().waitFor();
      expect(await page.getByText(fine[0] ?? '').count()).toBe(0);
      await saveScreenshot(page);
      expectNothingSecret('the page', await page.content(), sandbox);

      // The one button of its card that changes anything.
      const card = page.locator('[class^="card-"]', { hasText: failing });
      expect(await card.locator('[class^="jobActions-"] button:visible').count()).toBe(1);
      await card.locator('[class^="jobActions-"] button:visible').click();
      await page.getByRole('button', { name: /confirm/i }).click();
      await page
        .getByRole('link', { name: /completed/i })
        .first()
        .click();
      await page.getByText(failing).first().waitFor();
      expect(await ends(failing)).toMatchObject({ state: 'archived', attempts: 1 });

      expect(wentTo.filter((address) => address.includes(TOKEN))).toEqual([]);
      await page.goto(`${url}/dashboard/logout`);
      await page.getByRole('button', { name: 'Log out' }).click();
      await page.getByLabel('API token').waitFor();
      await page.goto(`${url}/dashboard`);
      expect(new URL(page.url()).pathname).toBe('/dashboard/login');
    },
    TEST_TIMEOUT_MS,
  );

  const ends = (sessionId: string) =>
    vi.waitUntil(
      async () => {
        const view = await runtime.operations.view({ sessionId, botId: sandbox.botId });
        return view?.state === 'archived' || view?.state === 'failed' ? view : undefined;
      },
      { timeout: PAGE_TIMEOUT_MS, interval: 20 },
    );
});

/** Keeps what the page looks like for the README, where that is asked for. */
async function saveScreenshot(page: Page): Promise<void> {
  // The environment belongs to src/config in the product; this is for whoever runs the tests.
  if (process.env.SAVE_SCREENSHOT !== '1') return;
  await mkdir(fileURLToPath(new URL('../../docs', import.meta.url)), { recursive: true });
  await page.screenshot({ path: SCREENSHOT });
}
