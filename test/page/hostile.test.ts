import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { findChromium } from '../support/browser.ts';
import { type PageService, startPageService } from '../support/page-service.ts';

const reason = findChromium() === undefined ? ' (Chromium is not installed)' : '';

/** Texts that would run a script wherever they became markup, an address or code. */
const TRIES = [
  '<script>boom()</script>',
  '"><script>boom()</script>',
  "'><script>boom()</script>",
  '</script><script>boom()</script>',
  '<img src=x onerror=boom()>',
  '"><img src=x onerror="boom()">',
  '<svg onload=boom()>',
  '<svg><script>boom()</script></svg>',
  '<svg><animate onbegin=boom() attributeName=x dur=1s>',
  '<body onload=boom()>',
  '<iframe src="javascript:boom()"></iframe>',
  '<iframe srcdoc="<script>parent.boom()</script>"></iframe>',
  '<object data="javascript:boom()"></object>',
  '<embed src="javascript:boom()">',
  '<a href="javascript:boom()">click</a>',
  '<form action="javascript:boom()"><button>go</button></form>',
  '<input autofocus onfocus=boom()>',
  '<details open ontoggle=boom()>',
  '<video><source onerror=boom()></video>',
  '<audio src=x onerror=boom()>',
  '<marquee onstart=boom()>',
  '<math><mtext><img src=x onerror=boom()></mtext></math>',
  '<template><script>boom()</script></template>',
  '<meta http-equiv="refresh" content="0;url=javascript:boom()">',
  '<base href="https://evil.example/">',
  '<link rel="stylesheet" href="https://evil.example/x.css">',
  '<style>@import "https://evil.example/x.css";</style>',
  '<div style="background:url(https://evil.example/x)">',
  'javascript:boom()',
  'data:text/html,<script>boom()</script>',
  '" onmouseover="boom()" x="',
  "' onclick='boom()' x='",
  '` onmouseover=boom() `',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is one of the tries
  '${boom()}',
  '{{constructor.constructor("boom()")()}}',
  '<%= boom() %>',
  '<!--><script>boom()</script>-->',
  '<![CDATA[<script>boom()</script>]]>',
  '&lt;script&gt;boom()&lt;/script&gt;',
  '\u202e<scr\u0000ipt>boom()</scr\u0000ipt>',
];

describe.skipIf(reason !== '')(`hostile text on the operator's page${reason}`, () => {
  let service: PageService;
  let page: Page;
  /** What the page was made to do that it must not do. */
  const done: string[] = [];

  beforeAll(async () => {
    service = await startPageService({ queueUrl: inject('redisUrl') });
    page = await service.open('/');
    await page.exposeFunction('boom', () => done.push('a script was run'));
    page.on('dialog', (dialog) => {
      done.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(service.url)) done.push(`a request: ${request.url()}`);
    });
    page.on('console', (message) => {
      if (/Content Security Policy|TrustedHTML/i.test(message.text())) done.push(message.text());
    });
    page.on('pageerror', (error) => done.push(`an error: ${error.message}`));
  });
  afterAll(() => service?.close());

  const at = async (path: string) => {
    await page.goto(`${service.url}${path}`);
    await page.getByRole('heading', { level: 1 }).waitFor();
    await page.locator('.loading').first().waitFor({ state: 'detached' });
  };
  /** Without loading the page again. */
  const goTo = (path: string) =>
    page.evaluate(
      `history.pushState(null, '', ${JSON.stringify(path)}); dispatchEvent(new PopStateEvent('popstate'))`,
    );
  /** That a text is on the page as it is, and nothing was made of it. */
  const expectInert = async () => {
    const made = await page.evaluate(`document.querySelectorAll(
      '#page script, #page iframe, #page object, #page embed, #page base, #page style, #page svg, #page marquee, ' +
      '#page [onerror], #page [onload], #page [onclick], #page [onmouseover], #page [href^="javascript" i]').length`);
    expect([made, done]).toEqual([0, []]);
  };

  it('hostile text in transcripts, file names and metadata runs no script: 40 tries', async () => {
    expect(TRIES).toHaveLength(40);
    const sessionId = service.sandbox.addSession({
      recordings: TRIES.map((fileName) => ({ seconds: 1, fileName })),
      transcription: TRIES,
    });
    await service.enqueue(sessionId);
    await service.ended(sessionId);
    await at(`/sessions/${sessionId}`);
    await page.locator('.recordings li').nth(39).waitFor();
    await page.getByRole('button', { name: 'Show transcript' }).click();
    await page.locator('.transcript li').nth(39).waitFor();
    const shown = await page.locator('.transcript li p:first-child').allTextContents();
    expect(shown[0]).toBe(TRIES[0]);
    expect(shown[4]).toBe(TRIES[4]);
    await page.getByRole('button', { name: 'Show manifest' }).click();
    await page.locator('.notes li').nth(39).waitFor();
    for (const link of await page.getByRole('link', { name: 'Download' }).all()) await link.hover();
    await expectInert();
  });

  it('hostile text in errors and in recordings that could not be saved runs no script', async () => {
    const failing = TRIES.slice(0, 8).map((text) =>
      service.sandbox.addSession({
        recordings: [{ seconds: 1 }, { fileName: text, fileUrl: `ftp://evil.example/${text}` }],
      }),
    );
    await service.enqueue(...failing);
    for (const sessionId of failing) {
      await service.ended(sessionId);
      await goTo(`/sessions/${sessionId}`);
      await page.getByRole('heading', { name: `Session ${sessionId}` }).waitFor();
      await page.locator('.missing li').waitFor();
    }
    await at('/sessions?state=failed');
    await page.locator('tbody tr').nth(7).waitFor();
    await at('/failures');
    await expectInert();
  });

  it("hostile text in Kore's status and call runs no script", async () => {
    const [text = '', other = ''] = [TRIES[4], TRIES[6]];
    const waiting = service.sandbox.addSession({ statuses: [text] });
    const called = service.sandbox.addSession({
      listing: { call: { from: text, queue: other, tags: TRIES.slice(0, 8) } },
    });
    await service.enqueue(waiting);
    const from = new Date(Date.now() - 3_600_000).toISOString();
    await service.ask('POST', '/v1/backfills', { from, source: 'calls' });
    await service.ended(called);
    await goTo(`/sessions/${called}`);
    await page.getByRole('button', { name: 'Show manifest' }).click();
    await page.getByText('As it is in the archive').click();
    await page.locator('pre').getByText(other).waitFor();
    await goTo(`/sessions/${waiting}`);
    await page.locator('.notice').getByText(text).waitFor();
    await expectInert();
  });

  it('hostile text in the reason of a hold, in ids, filters and addresses runs no script', async () => {
    const sessionId = service.sandbox.addSession();
    await service.enqueue(sessionId);
    await service.ended(sessionId);
    for (const reasonText of TRIES.slice(0, 6)) {
      await service.ask('PUT', `/v1/sessions/${sessionId}/hold`, { reason: reasonText });
      await goTo('/failures');
      await goTo(`/sessions/${sessionId}`);
      await page.locator('.notice.held').getByText(reasonText.slice(1)).waitFor();
      await service.ask('DELETE', `/v1/sessions/${sessionId}/hold`);
    }
    for (const text of TRIES.filter((_, index) => index % 4 === 0)) {
      const part = encodeURIComponent(text);
      await goTo('/failures');
      await goTo(`/sessions?q=${part}&state=${part}&code=${part}&bot=${part}&day=${part}`);
      await page.getByRole('alert').first().waitFor();
    }
    for (const text of ['<img src=x onerror=boom()>', 'javascript:boom()', '"><script>boom()<%2Fscript>']) {
      await page.goto(
        `${service.url}/sessions/${encodeURIComponent(text)}?botId=${encodeURIComponent(text)}`,
      );
      await page.getByRole('alert').first().waitFor();
    }
    await at(`/completeness?day=${encodeURIComponent(TRIES[4] ?? '')}`);
    await expectInert();
  });

  it('the policy of the page also refuses scripts and markup that are put into it', async () => {
    const { headers } = await page
      .goto(`${service.url}/`)
      .then((answer) => ({ headers: answer?.headers() ?? {} }));
    expect(headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self';/);
    const outcome = await page.evaluate(`(() => {
      try {
        document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=boom()>');
        return 'put in';
      } catch (error) {
        return error.name;
      }
    })()`);
    expect(outcome).toBe('TypeError');
  });
});
