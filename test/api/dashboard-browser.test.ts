import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Api } from '../../src/api/http-server.ts';
import { createApi } from '../../src/api/server.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { apiTokens } from '../support/api-server.ts';
import { findChromium, NEEDS_CHROMIUM, openBrowser } from '../support/browser.ts';
import { expectNothingSecret } from '../support/pipeline.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const TOKEN = 'a-token-for-people-0123456789';
/** Longer than a page takes on a busy machine. */
const PAGE_TIMEOUT_MS = 60_000;
const TEST_TIMEOUT_MS = 240_000;
const CODE = 'SESSION_NOT_FOUND';

const chromium = findChromium();
const reason = chromium === undefined ? ` (${NEEDS_CHROMIUM})` : '';

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
    worker = await runtime.startWorker(kore);
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
    'the dashboard in a browser shows the queue, read-only and without an error where there is none',
    async () => {
      const botId = sandbox.botId;
      // Kore is out of calls for its first check, and knows nothing of the other.
      const late = sandbox.addSession({ metadataFaults: [{ limit: '429-seconds' }] });
      const failing = randomBytes(12).toString('hex');
      await runtime.operations.enqueue([late, failing].map((sessionId) => ({ sessionId, botId })));
      await Promise.all([late, failing].map(ends));
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
      await page.waitForURL(`${url}/dashboard/queues`);

      const sessions = page.getByRole('link', { name: /Sessions/ }).first();
      await sessions.click();
      await page
        .getByRole('link', { name: /failed/i })
        .first()
        .click();
      await page.getByText(`${failing} · ${CODE}`).first().waitFor();
      expectNothingSecret('the page', await page.content(), sandbox);
      // No button of a job, nor of the queue.
      for (const buttons of ['jobActions-', 'queueActions-']) {
        expect(await page.locator(`[class^="${buttons}"] button:visible`).count(), buttons).toBe(0);
      }
      await page
        .getByRole('link', { name: /completed/i })
        .first()
        .click();
      await page.getByText(late).first().waitFor();
      expect(await page.content()).not.toContain('KORE_RATE_LIMITED');

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
