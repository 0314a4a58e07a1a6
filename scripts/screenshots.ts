/** `npm run screenshots`: pictures of each view of the operator's page, light and dark, into docs/pictures/. */

import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { startRedis } from '../test/setup/redis.ts';
import { type PageService, startPageService } from '../test/support/page-service.ts';

const PICTURES = join(import.meta.dirname, '../docs/pictures');
const DAY_MS = 86_400_000;
const DAYS = 16;
/** So many days ago some sessions are missing. */
const LACKING_DAYS_AGO = [3, 9];
const SIZE = { width: 1120, height: 760 };

const redis = await startRedis();
const service = await startPageService({
  queueUrl: redis.url,
  env: { POLL_DELAY: '1h', RETRY_DELAY: '1h', SESSION_WAIT: '0' },
});
try {
  await mkdir(PICTURES, { recursive: true });
  const { archived, lackingDay } = await fill(service);
  await addPace(redis.url, service.queueName);
  const views: readonly (readonly [name: string, path: string, ready: string])[] = [
    ['now', '/', '.health'],
    ['sessions', '/sessions', 'tbody tr'],
    ['session', `/sessions/${archived}`, '.transcript li'],
    ['failures', '/failures', 'section h2'],
    ['completeness', `/completeness?day=${lackingDay}`, '.fact'],
    ['backfills', '/backfills', 'tbody tr'],
  ];
  const page = await service.open('/');
  await page.setViewportSize(SIZE);
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    for (const [name, path, ready] of views) {
      await page.goto(`${service.url}${path}`);
      if (name === 'session') await page.getByRole('button', { name: 'Show transcript' }).click();
      await page.locator(ready).first().waitFor();
      await page.locator('.connection.open').waitFor();
      await page.locator('.message').waitFor({ state: 'detached' });
      await page.screenshot({ path: join(PICTURES, `${name}-${colorScheme}.png`) });
    }
  }
} finally {
  await service.close();
  await redis.stop();
}

/** Puts sessions of all kinds into queue and archive, and compares some days with Kore. */
async function fill({ sandbox, ask, enqueue, ended }: PageService) {
  const archived = sandbox.addSession({
    recordings: [{ seconds: 42, fileName: 'voicemail_front-desk.wav' }],
    transcription: [
      'Hello, this is Robin from the front desk.',
      'The delivery for Thursday has come a day early.',
      'Please call me back when you have a minute.',
    ],
  });
  const dayAgo = (days: number) => Date.now() - days * DAY_MS;
  const idOf = (time: number) => Math.floor(time / 1_000).toString(16) + randomBytes(8).toString('hex');
  const byDay = Array.from({ length: DAYS }, (_, days) =>
    Array.from({ length: 5 + (days % 4) }, () => sandbox.addSession({ sessionId: idOf(dayAgo(days)) })),
  );
  const left = new Set(LACKING_DAYS_AGO.flatMap((days) => byDay[days]?.slice(0, 2) ?? []));
  const waiting = Array.from({ length: 3 }, () => sandbox.addSession({ statuses: ['call_in_progress'] }));
  const unavailable = Array.from({ length: 2 }, () =>
    sandbox.addSession({ recordings: [{ fileUrl: 'ftp://media.example/voicemail.wav' }] }),
  );
  const unknown = Array.from({ length: 4 }, () => idOf(dayAgo(1)));
  const whole = [archived, ...byDay.flat().filter((id) => !left.has(id)), ...unavailable, ...unknown];
  await enqueue(...whole, ...waiting);
  for (const sessionId of whole) await ended(sessionId);

  const dateOf = (days: number) => new Date(dayAgo(days)).toISOString().slice(0, 10);
  const run = await ask('POST', '/v1/completeness', {
    from: dateOf(DAYS - 1),
    to: dateOf(0),
    write: true,
    reportOnly: true,
  });
  const { id } = run.body as { id: string };
  for (;;) {
    const { state } = (await ask('GET', `/v1/completeness/${id}`)).body as { state: string };
    if (state === 'completed' || state === 'failed') break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await ask('POST', '/v1/backfills', { from: new Date(dayAgo(5)).toISOString(), dryRun: true });
  await ask('POST', '/v1/backfills', { from: new Date(dayAgo(1)).toISOString() });
  await ask('PUT', '/v1/schedules/nightly', { cron: '0 3 * * *', lookback: '48h' });
  return { archived, lackingDay: dateOf(LACKING_DAYS_AGO[0] ?? 0) };
}

/** Makes the hour before this one look lived in: BullMQ keeps counts by minute, the newest first. */
async function addPace(url: string, queueName: string): Promise<void> {
  const client = new Redis(url);
  const minutes = Array.from({ length: 58 }, (_, index) =>
    Math.round(9 + 5 * Math.sin(index / 6) + (index % 3)),
  );
  await client.rpush(`bull:${queueName}:metrics:completed:data`, ...minutes);
  await client.rpush(
    `bull:${queueName}:metrics:failed:data`,
    ...minutes.map((_, index) => (index % 13 === 4 ? 1 : 0)),
  );
  client.disconnect();
}
