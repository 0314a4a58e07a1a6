import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { auditLogEntries } from '../support/audit-log-files.ts';
import { findChromium, NEEDS_CHROMIUM } from '../support/browser.ts';
import { PAGE_TIMEOUT_MS, type PageService, startPageService, TOKENS } from '../support/page-service.ts';

const SPOKEN = 'pineapple umbrella';
const MAX_SCRIPT_BYTES = 150_000;
const VIEWS = ['/', '/sessions', '/failures', '/completeness', '/backfills'] as const;
/** Plays from the beginning, continues near the end, and returns the duration of the recording in seconds. */
const PLAY_AND_SEEK = `(async () => {
  const audio = document.querySelector('audio');
  const once = (name) => new Promise((resolve) => audio.addEventListener(name, resolve, { once: true }));
  audio.muted = true;
  const loaded = once('loadedmetadata');
  await audio.play();
  await loaded;
  const seeked = once('seeked');
  audio.currentTime = audio.duration * 0.9;
  await seeked;
  audio.pause();
  return audio.duration;
})()`;
const POLL = { timeout: PAGE_TIMEOUT_MS, interval: 50 };

const reason = findChromium() === undefined ? ` (${NEEDS_CHROMIUM})` : '';

describe.skipIf(reason !== '')(`the operator's page${reason}`, () => {
  let service: PageService;
  /** Has the role that may do everything. */
  let page: Page;
  let archived: string;
  let failed: string;

  beforeAll(async () => {
    service = await startPageService({ queueUrl: inject('redisUrl') });
    const { sandbox } = service;
    archived = sandbox.addSession({
      // Longer than what a browser takes of it before it is asked to play.
      recordings: [{ seconds: 900 }],
      transcription: [`Hello, ${SPOKEN}.`, 'Please call me back.'],
    });
    failed = randomBytes(12).toString('hex');
    await service.enqueue(archived, failed);
    await Promise.all([service.ended(archived), service.ended(failed)]);
    page = await service.open('/');
  });
  afterAll(() => service?.close());

  const at = async (path: string, on: Page = page) => {
    await on.goto(`${service.url}${path}`);
    await on.getByRole('heading', { level: 1 }).waitFor();
    return on;
  };

  it('the page shows health, counts, the last hour, the rate limit and the workers', async () => {
    await at('/');
    await page.getByText(/^All is well/).waitFor();
    await page.getByRole('link', { name: /1\s*archived/ }).waitFor();
    await page.getByRole('link', { name: /1\s*failed/ }).waitFor();
    await page.getByText('1 session archived, 1 failed.').waitFor();
    expect(
      await page
        .getByRole('img', { name: /Sessions by minute/ })
        .locator('canvas')
        .count(),
    ).toBe(1);
    await page.getByText(/of 10,000 calls in 1 second used/).waitFor();
    for (const dependency of ["Kore's API", 'The archive', 'The queue']) {
      await page.getByText(dependency, { exact: true }).waitFor();
    }
    await page.getByRole('row', { name: new RegExp(`${service.program.pid}`) }).waitFor();
  });

  it('the page follows events without being loaded again', async () => {
    await at('/');
    await page.locator('.connection.open').waitFor();
    await page.evaluate('window.isTheSame = true');
    const more = [service.sandbox.addSession(), service.sandbox.addSession()];
    await service.enqueue(...more);
    await page.getByRole('link', { name: /3\s*archived/ }).waitFor();

    const watched = service.sandbox.addSession({ statuses: ['call_in_progress'] });
    await service.enqueue(watched);
    await page.getByRole('link', { name: 'Sessions', exact: true }).click();
    await page.getByRole('link', { name: watched }).click();
    await page.locator('.heading .state.waiting, .heading .state.active').waitFor();
    await service.ask('DELETE', `/v1/sessions/${watched}`);
    expect(await page.evaluate('window.isTheSame')).toBe(true);
  });

  it('the page lists sessions by state and by a part of the id, and keeps the filter in the address', async () => {
    await at('/sessions');
    await page.getByLabel('State').selectOption('failed');
    await expect.poll(() => page.locator('tbody tr').count(), POLL).toBe(1);
    expect(new URL(page.url()).search).toBe('?state=failed');
    await page.locator('tbody').getByText('SESSION_NOT_FOUND').waitFor();
    await page.getByLabel('State').selectOption('');
    await page.getByLabel(/Session id/).fill(archived.slice(3, 20));
    await page.getByRole('button', { name: 'Search' }).click();
    await expect.poll(() => page.locator('tbody tr').count(), POLL).toBe(1);
    await page.getByRole('link', { name: archived, exact: true }).click();
    await page.getByRole('heading', { name: `Session ${archived}` }).waitFor();
    await page.goBack();
    await page.getByRole('heading', { name: 'Sessions', exact: true }).waitFor();
    expect(await page.getByLabel(/Session id/).inputValue()).toBe(archived.slice(3, 20));
  });

  it('the page shows the history of a session, with integrity, transcript and manifest', async () => {
    await at(`/sessions/${archived}`);
    const timeLine = page.locator('.time-line');
    for (const event of ['Queued', 'Attempt', 'Archived']) await timeLine.getByText(event).first().waitFor();
    await page.getByText(/^Whole: every byte came/).waitFor();
    expect(await page.content()).not.toContain(SPOKEN);
    await page.getByRole('button', { name: 'Show transcript' }).click();
    await page.getByText(SPOKEN).waitFor();
    await page.getByRole('button', { name: 'Show manifest' }).click();
    await page.getByText('Manifest, revision 1').waitFor();

    await at(`/sessions/${failed}`);
    await page.locator('.notice.trouble').getByText('SESSION_NOT_FOUND').waitFor();
  });

  it('the page plays a recording, seeks by Range, and keeps nothing of it', async () => {
    await at(`/sessions/${archived}`);
    const answers: Promise<readonly [range: string | undefined, caching: string | undefined]>[] = [];
    page.on('response', (response) => {
      if (!response.url().includes('/recordings/')) return;
      const caching = response.headers()['cache-control'];
      answers.push(
        response
          .request()
          .allHeaders()
          .then(({ range }) => [range, caching] as const),
      );
    });
    await page.locator('audio').waitFor();
    expect(Math.round(Number(await page.evaluate(PLAY_AND_SEEK)))).toBe(900);
    const seen = await Promise.all(answers);
    const offsets = seen.map(([range]) => Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1]));
    expect(offsets[0]).toBe(0);
    expect(Math.max(...offsets)).toBeGreaterThan(1_000_000);
    expect([...new Set(seen.map(([, caching]) => caching))]).toEqual(['no-store']);
  });

  it('the page explains each failure and what fixes it', async () => {
    await at('/failures');
    const section = page.getByRole('region', { name: 'SESSION_NOT_FOUND' });
    await section.getByText('What it means').waitFor();
    await section.getByText('Check id and bot').waitFor();
    await section.getByRole('link', { name: /1 session/ }).click();
    await page.getByRole('link', { name: failed }).waitFor();
  });

  it('the page disables what a role may not do, and says why', async () => {
    const reader = await service.open(`/sessions/${archived}`, 'read');
    await reader
      .getByText(/takes the right to listen/)
      .first()
      .waitFor();
    expect(await reader.locator('audio').count()).toBe(0);
    expect(await reader.getByRole('button', { name: 'Show transcript' }).count()).toBe(0);
    const asked: string[] = [];
    reader.on('request', (request) => asked.push(request.method()));
    const erase = reader.getByRole('button', { name: 'Erase' });
    expect(await erase.getAttribute('aria-disabled')).toBe('true');
    await erase.focus();
    await reader.keyboard.press('Enter');
    await reader.locator('.message').getByText('takes the right to erase').waitFor();
    expect(asked.filter((method) => method !== 'GET')).toEqual([]);
    await reader.close();

    const program = await service.open('/', 'enqueue');
    await program.getByText('crm may not see this page.').waitFor();
    await program.close();
  });

  it('the page reports a refusal and a lost connection, and continues when it is back', async () => {
    await at('/sessions/67ab573f3685d1ba99549999');
    await page.getByText('This session is unknown.').waitFor();
    await at('/sessions?q=ab');
    await page.getByRole('alert').getByText('The sessions could not be listed.').waitFor();
    await page.getByRole('alert').getByText('INVALID_REQUEST').waitFor();

    await at('/');
    await page.locator('.connection.open').waitFor();
    await service.stop();
    await page.locator('.connection.lost').waitFor();
    await page.getByRole('alert').getByText('The archiver cannot be reached.').waitFor();
    await page.getByText('What is shown below is from before.').waitFor();
    await service.startAgain();
    await page.getByRole('alert').waitFor({ state: 'detached' });
    await page.locator('.connection.open').waitFor();
  });

  it('a log-out ends the log-in in all tabs, and they show no data any more', async () => {
    const other = await service.open(`/sessions/${archived}`);
    await other.getByRole('button', { name: 'Show transcript' }).click();
    await other.getByText(SPOKEN).waitFor();
    const tab = await at('/', await other.context().newPage());
    await tab.getByText(/^All is well/).waitFor();
    await tab.getByRole('button', { name: 'Log out' }).click();
    await tab.getByLabel('API token').waitFor();
    await other.getByText('Your log-in has ended.').waitFor();
    expect(await other.content()).not.toContain(SPOKEN);
    expect(await other.evaluate("fetch('/v1/stats').then(({ status }) => status)")).toBe(401);
    // It leads back to the page before.
    await other.getByRole('link', { name: 'Log in again' }).click();
    await other.getByLabel('API token').fill(TOKENS.read);
    await other.getByRole('button', { name: 'Log in' }).click();
    await other.getByRole('heading', { name: `Session ${archived}` }).waitFor();
    await other.context().close();
  });

  it('the page can be used by the keyboard alone', async () => {
    await at('/');
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to the content');
    await page.getByRole('link', { name: 'Failures' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Failures' }).waitFor();
    await at(`/sessions/${archived}`);
    await page.getByRole('button', { name: 'Hold', exact: true }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    expect(await page.evaluate('document.activeElement.textContent.trim()')).toBe('Hold');
  });

  it.each([
    ['light', {}],
    // What is not about colours is the same in both.
    ['dark', { runOnly: ['color-contrast'] }],
  ] as const)('has no serious fault that axe finds, in %s', async (colorScheme, options) => {
    const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
    const today = new Date().toISOString().slice(0, 10);
    const paths: readonly (readonly [path: string, shown: string, asks?: string])[] = [
      ['/', '.health'],
      ['/sessions', 'table.sessions'],
      ['/failures', '.row code'],
      ['/backfills', '#schedules'],
      ['/completeness', '.calendar'],
      [`/completeness?day=${today}`, '#the-day'],
      [`/sessions/${archived}`, 'audio'],
      [`/sessions/${failed}`, '.notice.trouble'],
      [`/sessions/${archived}`, 'audio', 'Erase'],
      ['/backfills', '#schedules', 'Start a backfill'],
    ];
    const other = await service.open('/');
    await other.emulateMedia({ colorScheme });
    for (const [index, [path, shown, asks]] of paths.entries()) {
      // Without loading the page again, as axe takes longest to be read.
      if (index === 0) await other.evaluate(axe);
      else
        await other.evaluate(
          `history.pushState(null, '', '${path}'); dispatchEvent(new PopStateEvent('popstate'))`,
        );
      await other.locator(shown).first().waitFor();
      await other.locator('.loading').first().waitFor({ state: 'detached' });
      if (asks !== undefined) {
        await other.getByRole('button', { name: asks, exact: true }).click();
        await other.getByRole('dialog').waitFor();
      }
      const faults = await other.evaluate(`axe.run(${JSON.stringify(options)}).then(({ violations }) =>
        violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
          .map(({ id, nodes }) => id + ': ' + nodes.map(({ html }) => html).join(' ')))`);
      expect([path, faults]).toEqual([path, []]);
    }
    await other.close();
  });

  it('the page fits a phone', async () => {
    await page.setViewportSize({ width: 375, height: 700 });
    for (const path of [...VIEWS, `/sessions/${archived}`]) {
      await at(path);
      await page.locator('.loading').first().waitFor({ state: 'detached' });
      const width = await page.evaluate('document.documentElement.scrollWidth');
      expect([path, width]).toEqual([path, 375]);
    }
    await page.setViewportSize({ width: 1280, height: 720 });
  });

  it('the page is small and loads fast', async () => {
    const fresh = await page.context().browser()?.newContext();
    if (!fresh) throw new Error('the browser is gone');
    await fresh.addCookies(await page.context().cookies());
    const first = await fresh.newPage();
    const sizes: Promise<number>[] = [];
    first.on('requestfinished', (request) => {
      if (request.resourceType() !== 'script' && !request.url().endsWith('.js')) return;
      sizes.push(request.sizes().then(({ responseBodySize }) => responseBodySize));
    });
    const start = performance.now();
    await first.goto(`${service.url}/`);
    await first.getByText(/^All is well/).waitFor();
    const milliseconds = Math.round(performance.now() - start);
    const bytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
    console.log(`the first view: ${milliseconds} ms, ${bytes} bytes of script in ${sizes.length} files`);
    expect(sizes.length).toBeGreaterThan(10);
    expect(bytes).toBeGreaterThan(10_000);
    expect(bytes).toBeLessThan(MAX_SCRIPT_BYTES);
    await fresh.close();
  });

  it('the audit log holds the listen once, and the log-out', async () => {
    const noted = await vi.waitUntil(async () => {
      const entries = await auditLogEntries(service.archive);
      return entries.some(({ action }) => action === 'log-out') && entries;
    }, POLL);
    // Of all the parts that the player has asked for, the first.
    expect(noted.filter(({ details }) => details?.object === 'recording')).toMatchObject([
      { action: 'download', actor: { name: 'ada', via: 'dashboard' }, details: { n: 0 } },
    ]);
  });
});
