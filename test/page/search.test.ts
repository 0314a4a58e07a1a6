import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import type { Request } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { findChromium } from '../support/browser.ts';
import { PAGE_TIMEOUT_MS, type PageService, startPageService } from '../support/page-service.ts';

const SESSIONS = 200_000;
const PER_CALL = 5_000;

/**
 * Copies a queued job under other session ids, as queueing them one after the other takes longer than a test may.
 * KEYS: the job, the list that it waits in, the index of all sessions. ARGV: the bot's prefix, its session id, the time,
 * and the others.
 */
const COPY = `
local fields = redis.call('HGETALL', KEYS[1])
local base = string.sub(KEYS[1], 1, -#ARGV[1] - #ARGV[2] - 1)
local last = ARGV[2]
for index = 4, #ARGV do
  local id = ARGV[1] .. ARGV[index]
  for place = 2, #fields, 2 do
    fields[place] = string.gsub(fields[place], last, ARGV[index])
  end
  redis.call('HSET', base .. id, unpack(fields))
  redis.call('LPUSH', KEYS[2], id)
  redis.call('ZADD', KEYS[3], ARGV[3], id)
  last = ARGV[index]
end
`;

const reason = findChromium() === undefined ? ' (Chromium is not installed)' : '';

describe.skipIf(reason !== '')(`searching on the operator's page${reason}`, () => {
  let service: PageService;
  const ids = Array.from({ length: SESSIONS }, () => randomBytes(12).toString('hex'));

  beforeAll(async () => {
    service = await startPageService({ queueUrl: inject('redisUrl') });
    await service.ask('PUT', '/v1/pause');
    const [first = '', ...others] = ids;
    await service.enqueue(first);
    const redis = new Redis(inject('redisUrl'));
    const key = `bull:${service.queueName}`;
    const bot = `${service.sandbox.botId}.`;
    const lists = [`${key}:wait`, `${key}:paused`];
    const places = await Promise.all(lists.map((list) => redis.lpos(list, bot + first)));
    const list = lists.find((_, index) => places[index] !== null) ?? '';
    const keys = [`${key}:${bot}${first}`, list, `${key}:session-index`];
    for (let start = 0; start < others.length; start += PER_CALL) {
      const copies = others.slice(start, start + PER_CALL);
      await redis.eval(COPY, keys.length, ...keys, bot, first, Date.now(), ...copies);
    }
    redis.disconnect();
    const { body } = await service.ask('GET', '/v1/stats');
    expect(body).toMatchObject({ states: { queued: SESSIONS } });
  });
  afterAll(() => service?.close());

  it('the search finds one of 200,000 queued sessions by a part of its id, with one request', async () => {
    const wanted = ids[Math.floor(SESSIONS / 3)] ?? '';
    const page = await service.open('/sessions');
    await page.locator('tbody tr').nth(49).waitFor();
    const asked: Request[] = [];
    page.on('request', (request) => {
      if (request.url().includes('/v1/sessions')) asked.push(request);
    });
    await page.getByLabel(/Session id/).fill(wanted.slice(6, 20));
    const start = performance.now();
    await page.getByRole('button', { name: 'Search' }).click();
    await page.getByText('1 session shown.').waitFor({ timeout: PAGE_TIMEOUT_MS });
    const shown = Math.round(performance.now() - start);
    const answered = Math.round(asked[0]?.timing().responseStart ?? 0);
    console.log(`found one of ${SESSIONS}: answered after ${answered} ms, shown after ${shown} ms`);
    expect(await page.locator('tbody th').allTextContents()).toEqual([expect.stringContaining(wanted)]);
    expect(asked).toHaveLength(1);
  });
});
