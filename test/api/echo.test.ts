import { afterAll, beforeAll, expect, it } from 'vitest';
import { createLogger } from '../../src/util/log.ts';
import { type ApiSetup, ask, openApiSetup } from '../support/api-server.ts';

const ODD = '\u001b[2J\u009b31m\u202e';
const LONG = 'x'.repeat(90_000);

let setup: ApiSetup;
let url: string;
const lines: string[] = [];
beforeAll(async () => {
  setup = await openApiSetup();
  url = await setup.serve({}, { log: createLogger('trace', (line) => lines.push(line)) });
});
afterAll(() => setup.close());

/** Whether a terminal would obey any of it. */
const hasControls = (text: string) => /[\p{Cc}\p{Cf}]/u.test(text);

it.each<[string, string, unknown]>([
  ['an unknown member of 90 KB', '/v1/sessions', { sessionIds: ['a'], [LONG]: 1 }],
  ['an unknown member with controls', '/v1/sessions', { sessionIds: ['a'], [`a${ODD}b`]: 1 }],
  [
    'a thousand unknown members',
    '/v1/sessions',
    Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`m${n}`, n])),
  ],
  ['a priority of 90 KB', '/v1/sessions', { sessionIds: ['a'], priority: LONG }],
])('%s is refused in a short answer that is fit for a terminal', async (_what, path, json) => {
  const { status, body, text } = await ask(url, path, { json });

  expect([status, body.code]).toEqual([400, 'INVALID_REQUEST']);
  expect(String(body.detail).length).toBeLessThanOrEqual(1_000);
  expect(hasControls(String(body.detail))).toBe(false);
  expect(text.length).toBeLessThan(2_000);
});

it('a path of 15 KB and a query with controls leave short, harmless answers and lines', async () => {
  const long = await ask(url, `/v1/${'a.'.repeat(7_500)}`);
  const odd = await ask(url, `/v1/sessions?${encodeURIComponent(`x${ODD}`)}=1`);

  expect(long.status).toBe(404);
  expect(odd.status).toBe(400);
  for (const { text } of [long, odd]) {
    expect(text.length).toBeLessThan(2_000);
    expect(hasControls(text)).toBe(false);
  }
  expect(lines.length).toBeGreaterThan(0);
  for (const line of lines) {
    expect(hasControls(line.trimEnd())).toBe(false);
    expect(line.length).toBeLessThan(20_000);
  }
});
