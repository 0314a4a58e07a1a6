import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listWindow } from '../../src/backfills/list.ts';
import { createKoreClient, type KoreClient } from '../../src/kore/client.ts';
import { callsListing } from '../../src/kore/listings/calls.ts';
import type { Listing, ListingPage } from '../../src/kore/listings/listing.ts';
import { sessionsListing } from '../../src/kore/listings/sessions.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { silent } from '../support/queues.ts';

const NOON = Date.UTC(2026, 4, 5, 12);
const HOUR_MS = 60 * 60 * 1000;
const ALL_SCOPES = ['SmartAssist Voicemail', 'SmartAssist Analytics', 'Bot Sessions'];

let sandbox: Sandbox;
let client: KoreClient;
const signal = new AbortController().signal;

beforeAll(async () => {
  sandbox = await startSandbox();
  client = createKoreClient({
    config: {
      baseUrl: sandbox.url,
      botId: sandbox.botId,
      clientId: sandbox.clientId,
      clientSecret: sandbox.clientSecret,
      accountId: sandbox.accountId,
      rateLimit: { calls: 60, windowMs: 60_000 },
      maxAnswerBytes: 64 * 2 ** 20,
      retentionMs: undefined,
    },
    limit: { acquire: async () => {}, pause: async () => {} },
    log: silent,
  });
});

afterAll(async () => {
  await client.close();
  await sandbox.close();
});

function list(listing: Listing, from: number, to: number, page = 0, rowsBefore = 0): Promise<ListingPage> {
  const query = { botId: sandbox.botId, from: new Date(from), to: new Date(to), page, rowsBefore };
  return client.listPage(listing, query, signal);
}

/** An answer as it comes from the wire. */
function answer(body: unknown, status = 200) {
  return { status, headers: {}, body: typeof body === 'string' ? body : JSON.stringify(body) };
}

it.each([
  ['call details', callsListing('st-1'), 'data'],
  ['the sessions history', sessionsListing, 'sessions'],
] as const)('%s with far more rows, or values, than requested are refused', (_name, listing, member) => {
  const rows = (count: number) => `{"${member}":[${'{},'.repeat(count - 1)}{}]}`;
  expect(listing.read(answer(rows(1_000)))).toMatchObject({ rows: 1_000, unreadable: 1_000 });
  for (const count of [20_000, 1_000_000])
    expect(() => listing.read(answer(rows(count)))).toThrow(
      expect.objectContaining({
        code: 'KORE_BAD_RESPONSE',
        message: expect.stringMatching(count === 20_000 ? `at ${member}` : 'more than 200000 values'),
      }),
    );
});

describe('call details', () => {
  it('call details come in pages that end, and say which sessions have a voicemail', async () => {
    const from = NOON;
    const ids = Array.from({ length: 150 }, (_, index) =>
      sandbox.addSession({
        sessionId: makeSessionId(new Date(from + index * 1000)),
        recordings: index % 2 === 0 ? [{}] : [],
      }),
    );
    const calls = callsListing(sandbox.accountId);
    const first = await list(calls, from, from + HOUR_MS);
    const second = await list(calls, from, from + HOUR_MS, 1, first.rows);
    expect([first, second].map(({ rows, isLast, total }) => ({ rows, isLast, total }))).toEqual([
      { rows: 100, isLast: false, total: 150 },
      { rows: 50, isLast: true, total: 150 },
    ]);
    const listed = [...first.sessions, ...second.sessions];
    expect(listed.map(({ sessionId }) => sessionId)).toEqual(ids.reverse());
    expect(listed.filter(({ hasVoicemail }) => hasVoicemail)).toHaveLength(75);
  });

  it.each([
    ['YES', true],
    ['yes', true],
    ['true', true],
    [true, true],
    ['Y', true],
    [' yes ', true],
    [1, true],
    ['1', true],
    ['NO', false],
    ['N', false],
    ['False', false],
    [false, false],
    [0, false],
    ['0', false],
    ['perhaps', undefined],
    [{ value: 'NO' }, undefined],
    ['no'.padEnd(100_000, 'o'), undefined],
    ['', undefined],
    [null, undefined],
    [undefined, undefined],
  ])('call details with isVoicemail %j give %j', (isVoicemail, hasVoicemail) => {
    const page = callsListing('a').read(
      answer({ data: [{ sessionId: 's-1', channel: 'voice', isVoicemail }] }),
    );
    expect(page.sessions).toEqual([{ sessionId: 's-1', hasVoicemail }]);
  });

  it('call details of other channels are left out, and rows that name no session are counted', () => {
    const data = [
      { sessionId: 's-1', channel: 'korevg' },
      { sessionId: 's-2', channel: 'rtm' },
      { sessionId: '../../x', channel: 'voice' },
      { conversationId: 'c-1' },
      'nonsense',
    ];
    const page = callsListing('a').read(answer({ data, numResults: 5 }));
    expect(page).toMatchObject({ sessions: [{ sessionId: 's-1' }], rows: 5, unreadable: 3, isLast: true });
  });

  it.each(['IVR', 'ivrVoice', 'audiocodes', 'twiliovoice', 'korevg', 'voicemail', 'x-new', 7, null])(
    'call details with the channel %j give a session that may have a voicemail',
    (channel) => {
      const page = callsListing('a').read(answer({ data: [{ sessionId: ' s-1 ', channel }] }));
      expect(page).toMatchObject({ sessions: [{ sessionId: 's-1' }], unreadable: 0 });
    },
  );

  it.each(['chat', 'Live Chat', 'e-mail', 'EMAIL', 'sms', 'WhatsApp', 'messaging', 'rtm', 'web_sdk'])(
    'call details with the channel %j are left out',
    (channel) => {
      expect(callsListing('a').read(answer({ data: [{ sessionId: 's-1', channel }] })).sessions).toEqual([]);
    },
  );

  it('the error for call details names the missing scope', async () => {
    sandbox.configure({ scopes: ['SmartAssist Voicemail'] });
    await expect(list(callsListing(sandbox.accountId), NOON, NOON + HOUR_MS)).rejects.toMatchObject({
      code: 'KORE_UNAUTHORIZED',
      hint: expect.stringContaining('"SmartAssist Analytics"'),
    });
    sandbox.configure({ scopes: ALL_SCOPES });
  });

  it('the error for call details names an unknown account, and is not retryable', async () => {
    await expect(list(callsListing('another'), NOON, NOON + HOUR_MS)).rejects.toMatchObject({
      code: 'KORE_BAD_RESPONSE',
      retryable: false,
      message: expect.stringContaining('KORE_ACCOUNT_ID'),
    });
  });
});

describe('the listing of a window', () => {
  it('the listing of a window continues behind a short page, as long as Kore counts more than it has shown', async () => {
    const pages = [40, 60, 20].map((rows, page) => ({
      sessions: Array.from({ length: rows }, (_, row) => ({
        sessionId: `s-${page}-${row}`,
        hasVoicemail: true,
      })),
      rows,
      unreadable: 0,
      isLast: true,
      total: 120,
    }));
    const listed = await listWindow(
      { from: NOON, to: NOON + HOUR_MS },
      async ({ page }) => pages[page] ?? expect.unreachable('there is no such page'),
      { maxWindowMs: HOUR_MS, maxPages: 10 },
      signal,
    );
    expect(listed).toMatchObject({ kind: 'listed', pages: 3 });
    expect(listed.kind === 'listed' && listed.sessions).toHaveLength(120);
  });
});

describe('the sessions history', () => {
  it('the sessions history comes in pages that end, and says nothing about voicemails', async () => {
    const from = NOON + 24 * HOUR_MS;
    for (let index = 0; index < 101; index += 1) {
      sandbox.addSession({ sessionId: makeSessionId(new Date(from + index * 1000)) });
    }
    const first = await list(sessionsListing, from, from + HOUR_MS);
    const second = await list(sessionsListing, from, from + HOUR_MS, 1, first.rows);
    expect([first, second].map(({ rows, isLast, total }) => ({ rows, isLast, total }))).toEqual([
      { rows: 100, isLast: false, total: 101 },
      { rows: 1, isLast: true, total: 101 },
    ]);
    expect(second.sessions).toEqual([
      {
        sessionId: expect.any(String),
        hasVoicemail: undefined,
        call: { startedAt: '2026-05-06T12:00:00.000Z' },
      },
    ]);
  });

  it('the sessions history continues after the rows it got where the server gives fewer than requested', () => {
    const query = {
      botId: 'st-1',
      from: new Date(NOON),
      to: new Date(NOON + HOUR_MS),
      page: 1,
      rowsBefore: 40,
    };
    expect(JSON.parse(sessionsListing.request(query).body ?? '')).toEqual({
      skip: 40,
      limit: 100,
      dateFrom: '2026-05-05T12:00:00.000Z',
      dateTo: '2026-05-05T13:00:00.000Z',
    });
    const sessions = [{ sessionId: 's-1', channel: 'korevg' }];
    expect(sessionsListing.read(answer({ sessions, moreAvailable: true })).isLast).toBe(false);
    expect(sessionsListing.read(answer({ sessions, moreAvailable: false })).isLast).toBe(true);
    expect(sessionsListing.read(answer({ sessions: [], moreAvailable: true })).isLast).toBe(true);
  });
});

describe('an answer that is no listing', () => {
  it.each([
    [
      'a limit with status 200',
      answer({ errors: [{ msg: 'Rate limit for this API has been reached.' }] }),
      'KORE_RATE_LIMITED',
    ],
    ['an outage', answer('<html>', 503), 'KORE_UNAVAILABLE'],
    ['a page of a load balancer', answer('<html>', 200), 'KORE_UNAVAILABLE'],
    ['a 404 that is not Kore’s', answer('<html>', 404), 'KORE_UNAVAILABLE'],
    ['cut-off JSON', answer('{"sessions": [{"sess'), 'KORE_BAD_RESPONSE'],
    ['another shape', answer({ sessions: 'none' }), 'KORE_BAD_RESPONSE'],
    ['a list', answer([]), 'KORE_BAD_RESPONSE'],
  ])('an answer that is no listing fails with its code: %s', (_, given, code) => {
    expect(() => sessionsListing.read(given)).toThrow(expect.objectContaining({ code }));
  });
});
