/** A `start` with the operator's page, beside a sandbox, and a browser that is logged in. */

import type { Page } from 'playwright-core';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import type { SandboxOptions } from '../../src/sandbox/spec.ts';
import { findChromium, openBrowser } from './browser.ts';
import { hasLogged, type RunningCli, startCli } from './cli.ts';
import { sandboxEnvironment, temporaryDirectory } from './services.ts';

/** A token for each role of the page. */
export const TOKENS = {
  erase: 'token-of-ada-0123456789',
  operate: 'token-of-bob-0123456789',
  read: 'token-of-cyd-0123456789',
  enqueue: 'token-of-the-crm-0123456789',
} as const;
export type TokenRole = keyof typeof TOKENS;

const NAMES: Readonly<Record<TokenRole, string>> = {
  erase: 'ada',
  operate: 'bob',
  read: 'cyd',
  enqueue: 'crm',
};

/** Longer than a page takes on a busy machine. */
export const PAGE_TIMEOUT_MS = 60_000;

/** The service and its surroundings. */
export interface PageService {
  readonly url: string;
  readonly sandbox: Sandbox;
  /** The one that runs now. */
  readonly program: RunningCli;
  /** Below it lie the archive and its audit log. */
  readonly archive: string;
  readonly queueName: string;
  /** Asks the API as who may do everything. */
  ask(method: string, path: string, json?: unknown): Promise<{ status: number; body: unknown }>;
  /** Queues sessions of the sandbox's bot. */
  enqueue(...sessionIds: string[]): Promise<void>;
  /** Resolves when a session has archived or failed. */
  ended(sessionId: string): Promise<void>;
  /** Stops the service as an operator does. */
  stop(): Promise<void>;
  /** Starts it again at the same address. */
  startAgain(): Promise<void>;
  /** A page with cookies of its own, logged in and at a path. */
  open(path: string, role?: TokenRole): Promise<Page>;
  close(): Promise<void>;
}

/** How to start it. */
export interface PageServiceOptions {
  readonly queueUrl: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly sandbox?: SandboxOptions;
}

/** Starts sandbox, service and browser. */
export async function startPageService({
  queueUrl,
  env,
  sandbox: options,
}: PageServiceOptions): Promise<PageService> {
  const executable = findChromium();
  if (executable === undefined) throw new Error('Chromium is not installed');
  const [sandbox, directory, browser] = await Promise.all([
    startSandbox(options),
    temporaryDirectory(),
    openBrowser(executable),
  ]);
  const queueName = `page-${sandbox.botId}`;
  const start = (more: Readonly<Record<string, string>> = {}) =>
    startCli(['start'], {
      cwd: directory.path,
      env: {
        ...sandboxEnvironment(sandbox),
        KORE_ACCOUNT_ID: sandbox.accountId,
        QUEUE_URL: queueUrl,
        QUEUE_NAME: queueName,
        ARCHIVE_URL: 'file:archive',
        SETTLE_WAIT: '0',
        API_TOKEN: Object.entries(TOKENS)
          .map(([role, token]) => `${NAMES[role as TokenRole]}:${role}:${token}`)
          .join(','),
        ...env,
        ...more,
      },
    });
  let program = start();
  await program.waitFor(hasLogged('taking sessions'));
  const listening = program.log.find(({ msg }) => msg === 'listening');
  const port = String(listening?.port);
  const url = `http://127.0.0.1:${port}`;

  const ask: PageService['ask'] = async (method, path, json) => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${TOKENS.erase}`,
        ...(json !== undefined && { 'content-type': 'application/json' }),
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : (JSON.parse(text) as unknown) };
  };
  return {
    url,
    sandbox,
    get program() {
      return program;
    },
    archive: `${directory.path}/archive`,
    queueName,
    ask,
    async enqueue(...sessionIds) {
      const { status } = await ask('POST', '/v1/sessions', { sessionIds });
      if (status !== 202) throw new Error(`queueing was answered ${status}`);
    },
    async ended(sessionId) {
      for (;;) {
        const { body } = await ask('GET', `/v1/sessions/${sessionId}`);
        const { state } = body as { state?: string };
        if (state === 'archived' || state === 'failed') return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    async stop() {
      program.kill('SIGTERM');
      await program.ended;
    },
    async startAgain() {
      program = start({ HTTP_PORT: port });
      await program.waitFor(hasLogged('taking sessions'));
    },
    async open(path, role = 'erase') {
      const context = await browser.browser.newContext({ viewport: { width: 1280, height: 720 } });
      const page = await context.newPage();
      page.setDefaultTimeout(PAGE_TIMEOUT_MS);
      await page.goto(`${url}${path}`);
      await page.getByLabel('API token').fill(TOKENS[role]);
      await page.getByRole('button', { name: 'Log in' }).click();
      await page.waitForURL(`${url}${path}`);
      return page;
    },
    async close() {
      await browser.close();
      program.kill('SIGTERM');
      await program.ended;
      await Promise.all([sandbox.close(), directory.remove()]);
    },
  };
}
