import { randomBytes } from 'node:crypto';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { auditLogEntries } from '../support/audit-log-files.ts';
import { findChromium, NEEDS_CHROMIUM } from '../support/browser.ts';
import { PAGE_TIMEOUT_MS, type PageService, startPageService } from '../support/page-service.ts';

const DAY_MS = 86_400_000;
const POLL = { timeout: PAGE_TIMEOUT_MS, interval: 50 };

const reason = findChromium() === undefined ? ` (${NEEDS_CHROMIUM})` : '';

describe.skipIf(reason !== '')(`the actions of the operator's page${reason}`, () => {
  let service: PageService;
  let page: Page;
  let archived: string;
  let failedOnce: string;
  let failedToo: string;

  beforeAll(async () => {
    service = await startPageService({ queueUrl: inject('redisUrl') });
    archived = service.sandbox.addSession({ transcription: 'Please call back.' });
    await service.enqueue(archived);
    [[failedOnce, failedToo]] = await Promise.all([
      Promise.all([failOnce(), failOnce()]),
      service.ended(archived),
    ]);
    page = await service.open('/failures');
  });
  afterAll(() => service?.close());

  const at = async (path: string) => {
    await page.goto(`${service.url}${path}`);
    await page.getByRole('heading', { level: 1 }).waitFor();
  };
  /** Presses a button, and the one of the question that follows. */
  const act = async (name: string, isAsked = true) => {
    await page.getByRole('button', { name, exact: true }).click();
    if (isAsked) await page.getByRole('dialog').getByRole('button', { name, exact: true }).click();
  };
  const messageShown = (text: string | RegExp) => page.locator('.message.ok').getByText(text).waitFor();
  const sessionState = async (sessionId: string) => {
    const { body } = await service.ask('GET', `/v1/sessions/${sessionId}`);
    return (body as { state?: string }).state;
  };
  /** One that Kore does not know yet, and then does. */
  const failOnce = async () => {
    const sessionId = randomBytes(12).toString('hex');
    await service.enqueue(sessionId);
    await service.ended(sessionId);
    service.sandbox.addSession({ sessionId });
    return sessionId;
  };

  it('the page retries all sessions with one code', async () => {
    await act('Retry all with SESSION_NOT_FOUND');
    await messageShown('2 sessions are queued again.');
    await page.getByText('No session has failed.').waitFor();
    const both = [failedOnce, failedToo];
    await Promise.all(both.map((sessionId) => service.ended(sessionId)));
    expect(await Promise.all(both.map(sessionState))).toEqual(['archived', 'archived']);
  });

  it('the page retries a session', async () => {
    const sessionId = await failOnce();
    await at(`/sessions/${sessionId}`);
    await act('Retry', false);
    await messageShown('The session is queued again.');
    await page.locator('.heading .state.archived').waitFor();
    expect(await sessionState(sessionId)).toBe('archived');
  });

  it('the page pauses the queue, cancels a session and resumes the queue', async () => {
    await at('/');
    await act('Pause');
    await page
      .locator('.health')
      .getByText(/^Paused/)
      .waitFor();
    const sessionId = service.sandbox.addSession();
    await service.enqueue(sessionId);
    await at(`/sessions/${sessionId}`);
    await act('Cancel');
    await messageShown('The session is taken out of the queue.');
    await page.getByText('This session is unknown.').waitFor();
    await at('/');
    await act('Resume', false);
    await messageShown('Workers take sessions again.');
    await page.getByRole('button', { name: 'Pause' }).waitFor();
  });

  it('the page archives a session again', async () => {
    await at(`/sessions/${archived}`);
    await act('Archive again');
    await messageShown('The session is queued to be archived again.');
    await expect
      .poll(async () => {
        const { body } = await service.ask('GET', `/v1/sessions/${archived}/manifest`);
        return (body as { revision?: number }).revision;
      }, POLL)
      .toBe(2);
  });

  it('the page holds and releases a session', async () => {
    await at(`/sessions/${archived}`);
    await page.getByRole('button', { name: 'Hold', exact: true }).click();
    await page.getByLabel(/^Reason/).fill('case 4711');
    await page.getByRole('dialog').getByRole('button', { name: 'Hold', exact: true }).click();
    await messageShown('The session is on hold.');
    await page.getByText('case 4711').waitFor();
    expect(await page.getByRole('button', { name: 'Erase' }).getAttribute('aria-disabled')).toBe('true');
    await act('Release hold');
    await messageShown('The hold is released.');
    await page.getByText('case 4711').waitFor({ state: 'detached' });
  });

  it('the page erases a session after its id is typed', async () => {
    const sessionId = service.sandbox.addSession();
    await service.enqueue(sessionId);
    await service.ended(sessionId);
    await at(`/sessions/${sessionId}`);
    await page.getByRole('button', { name: 'Erase' }).click();
    const confirm = page.getByRole('dialog').getByRole('button', { name: 'Erase' });
    await page.getByLabel(/^To confirm/).fill(sessionId.slice(1));
    expect(await confirm.isDisabled()).toBe(true);
    await page.getByLabel(/^To confirm/).fill(sessionId);
    await confirm.click();
    await messageShown('The session is erased.');
    await page.getByRole('alert').getByText('Erased.').waitFor();
    // Its button is gone, and who uses the keyboard is not sent to the beginning of the page.
    expect(await page.evaluate('document.activeElement.tagName')).toBe('H1');
    expect((await service.ask('GET', `/v1/sessions/${sessionId}`)).status).toBe(410);
  });

  it('the page lists and queues what is missing of a day', async () => {
    const time = Date.now() - 2 * DAY_MS;
    const missing = [1, 2].map(() =>
      service.sandbox.addSession({
        sessionId: Math.floor(time / 1000).toString(16) + randomBytes(8).toString('hex'),
      }),
    );
    await at(`/completeness?day=${new Date(time).toISOString().slice(0, 10)}`);
    await act('List what is missing', false);
    for (const sessionId of missing) await page.getByRole('link', { name: sessionId }).waitFor();
    await act('Queue what is missing');
    await messageShown('The day is compared: 2 sessions queued.');
    await Promise.all(missing.map((sessionId) => service.ended(sessionId)));
    await act('Compare again', false);
    const square = page.getByRole('button', { name: /: complete of 2 sessions$/ });
    await square.waitFor();
    expect(await square.getAttribute('class')).toContain('complete');
  });

  it('the page starts and cancels a backfill', async () => {
    const held = Promise.withResolvers<void>();
    service.sandbox.configure({ beforeListing: () => held.promise });
    await at('/backfills');
    await act('Start a backfill');
    await messageShown('The backfill is started.');
    await act('Cancel');
    await messageShown(/^The backfill is cancelled/);
    held.resolve();
    service.sandbox.configure({ beforeListing: undefined });
    await page.getByRole('cell', { name: 'cancelled' }).waitFor();
  });

  it('the page sets and removes a schedule', async () => {
    await at('/backfills');
    await page.getByRole('button', { name: 'Set a schedule' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name').fill('nightly');
    await dialog.getByLabel(/^Cron/).fill('no cron');
    await dialog.getByRole('button', { name: 'Set a schedule' }).click();
    // What the API refuses is messageShown in its words.
    await page.locator('.message.trouble').getByText(/cron/).waitFor();
    await page.getByRole('button', { name: 'Set a schedule' }).click();
    await dialog.getByLabel(/^Cron/).fill('0 3 * * *');
    await dialog.getByRole('button', { name: 'Set a schedule' }).click();
    await messageShown('The schedule nightly is set.');
    await page.getByRole('row', { name: /nightly.*2 days/ }).waitFor();
    await act('Remove nightly');
    await messageShown('The schedule nightly is removed.');
    await page.getByText('Nothing is on a timetable.').waitFor();
  });

  it('the audit log holds each action of the page, with its user', async () => {
    const actions = [
      'retry',
      'pause',
      'cancel',
      'resume',
      'enqueue.force',
      'hold.set',
      'hold.release',
      'erase',
      'completeness',
      'schedule.set',
      'schedule.remove',
    ];
    const done = async () => {
      const entries = await auditLogEntries(service.archive);
      const own = entries.filter(({ actor }) => actor.name === 'ada' && actor.via === 'dashboard');
      return actions.filter((name) => !own.some(({ action }) => action === name));
    };
    await expect.poll(done, POLL).toEqual([]);
  });
});
