/** More of what the fuzz run feeds: stores, listings, webhooks, and files that people hand over. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CompactSign } from 'jose';
import { createSignatureCheck } from '../../src/api/access.ts';
import { BackfillBody, ScheduleBody } from '../../src/api/schemas/backfills.ts';
import { memberNames, readNotification } from '../../src/api/webhook/notification.ts';
import { createKoreTokenCheck } from '../../src/api/webhook/tokens.ts';
import { readSessionList } from '../../src/cli/session-list.ts';
import { callsListing } from '../../src/kore/listings/calls.ts';
import { sessionsListing } from '../../src/kore/listings/sessions.ts';
import { createS3Store } from '../../src/storage/s3/store.ts';
import { parseJson } from '../../src/util/json.ts';
import { CheckpointRefused, openCheckpoint } from '../../src/verification/checkpoint.ts';
import { NO_TOTALS } from '../../src/verification/findings.ts';
import type { Random } from '../support/random.ts';
import { openTestBucket, PLAIN_S3 } from '../support/s3.ts';
import { type ForgedAnswer, startS3Proxy } from '../support/s3-proxy.ts';
import { mutate, mutateBytes } from './mutate.ts';
import { type FuzzTarget, failureOf, failureOfAsync } from './target.ts';

/** By name, each opened when its turn comes. */
export const OUTSIDE_TARGETS: Readonly<Record<string, () => Promise<FuzzTarget>>> = {
  "a store's answers": openStoreTarget,
  "Kore's listings": async () => ({
    async feed(random) {
      const [listing, body] = random.pick([
        [callsListing('st-1'), CALLS],
        [sessionsListing, SESSIONS],
      ] as const);
      const status = random.pick([200, 200, 200, 400, 403, 404, 429, 500]);
      const headers = { 'retry-after': mutate(random, '30'), date: mutate(random, DATE) };
      return failureOf(() => void listing.read({ status, headers, body: mutate(random, body) }));
    },
    close: async () => {},
  }),
  webhooks: openWebhookTarget,
  'lists of sessions': async () => ({
    async feed(random) {
      const list = Buffer.from(mutate(random, random.pick(LISTS).repeat(1 + random.below(200))));
      return failureOfAsync(async () => {
        for await (const entry of readSessionList(chunksOf(random, list)))
          if ('session' in entry && !/^[A-Za-z0-9_-]{1,128}$/.test(entry.session.sessionId))
            throw new Error(`took ${JSON.stringify(entry.session)} for a session`);
      });
    },
    close: async () => {},
  }),
  checkpoints: openCheckpointTarget,
  'bodies of backfills and schedules': async () => ({
    feed: async (random) =>
      failureOf(() => {
        const [schema, body] = random.pick([
          [BackfillBody, BACKFILL],
          [ScheduleBody, SCHEDULE],
        ] as const);
        schema.safeParse(parseJson(mutate(random, body)));
      }),
    close: async () => {},
  }),
};

const DATE = 'Wed, 25 Nov 2026 15:00:00 GMT';
const CALLS = JSON.stringify({
  data: [
    { sessionId: '67aa38026e199c8f470e0001', channel: 'korevg', isVoicemail: 'YES' },
    { sessionId: '67aa38026e199c8f470e0002', channel: 'rtm', isVoicemail: false },
  ],
  numResults: '2',
});
const SESSIONS = JSON.stringify({
  sessions: [{ sessionId: '67aa38026e199c8f470e0001', channel: 'ivr', start_time: '2026-01-05T09:30:00Z' }],
  total: 1,
  moreAvailable: false,
});
const LISTS = [
  '67aa38026e199c8f470e0001\n',
  'sessionId,botId,note\n67aa38026e199c8f470e0001,st-1,"two\nlines, ""quoted"""\n',
  '{"sessionId":"67aa38026e199c8f470e0001","botId":"st-1"}\n"67aa38026e199c8f470e0002"\n',
  '\ufeffSession ID;x\r\n67aa38026e199c8f470e0001;1\r\n',
];
const BACKFILL = JSON.stringify({
  from: '2026-01-01T00:00:00Z',
  to: '2026-01-02T00:00:00+01:00',
  source: 'sessions',
  botId: 'st-1',
  dryRun: true,
});
const SCHEDULE = JSON.stringify({ cron: '0 0 3 1-15/2 JAN,FEB MON#1', lookback: '48h' });

async function* chunksOf(random: Random, bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + random.below(random.chance(0.2) ? 8 : 64 * 1024);
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

/** What a store answers, changed on its way: heads, XML and objects. */
async function openStoreTarget(): Promise<FuzzTarget> {
  const bucket = await openTestBucket();
  let forged: ForgedAnswer | undefined;
  const proxy = await startS3Proxy(bucket.endpoint, () => forged);
  const { region, credentials } = bucket;
  const store = createS3Store(
    { kind: 's3', bucket: bucket.bucket, prefix: '', s3: PLAIN_S3 },
    { connection: { endpoint: proxy.endpoint, region, credentials, maxAttempts: 1 }, cleanUpMs: 1_000 },
  );
  const signal = new AbortController().signal;
  const info = { contentType: 'audio/wav' };
  const key = (n: number) => `bot_id=a/date=2026-01-05/session_id=${n}/manifest.json`;
  for (let n = 0; n < 20; n += 1)
    await store.write(key(n), Buffer.from(`{"n":${n}}`), info, 'absent', signal);
  let fed = 0;
  return {
    async feed(random) {
      fed += 1;
      const n = random.below(24);
      const work = random.pick([
        () => store.read(key(n), signal),
        () => store.readVersion(key(n), signal),
        () => store.head(key(n), signal),
        () => store.scan(key(n), () => undefined, signal),
        () => collect(store.list('bot_id=a/', signal)),
        () => collect(store.listDirectory('bot_id=a/date=2026-01-05/', signal)),
        () => store.write(key(1_000 + fed), Buffer.from('{}'), info, 'absent', signal),
        () => store.write(key(n), Buffer.from(`{"n":${n}}`), info, 'replace', signal),
        () => store.check(signal),
      ]);
      // For all that comes of one call, also what it asks in the end.
      forged = (head, body) => {
        const newBody = random.chance(0.5) ? body : spoil(random, body);
        const newHead = random.chance(0.5) ? mutate(random, head) : resized(head, newBody.length);
        return Buffer.concat([Buffer.from(newHead, 'latin1'), newBody]);
      };
      try {
        return await failureOfAsync(work);
      } finally {
        forged = undefined;
      }
    },
    async close() {
      await store.close();
      await proxy.close();
      await bucket.close();
    },
  };
}

function spoil(random: Random, body: Buffer): Buffer {
  return random.chance(0.7) ? Buffer.from(mutate(random, body.toString())) : mutateBytes(random, body);
}

function resized(head: string, bytes: number): string {
  return head.replace(/^content-length: \d+/im, `content-length: ${bytes}`);
}

/** As much of a listing as anybody would look at, should it never end. */
async function collect(entries: AsyncIterable<unknown>): Promise<void> {
  let count = 0;
  for await (const _ of entries) {
    count += 1;
    if (count > 10_000) return;
  }
}

/** Bodies, signatures and tokens as the webhook reads them; that it answers is what "API requests" shows. */
async function openWebhookTarget(): Promise<FuzzTarget> {
  const secret = '0123456789abcdef';
  const isKoreToken = createKoreTokenCheck({ clientId: 'cs-1', clientSecret: secret });
  const isSignature = createSignatureCheck([secret]);
  const key = new TextEncoder().encode(secret);
  return {
    async feed(random) {
      const claims = mutate(
        random,
        JSON.stringify({ appId: 'cs-1', exp: 1_795_000_000, nbf: 1, aud: ['x'] }),
      );
      const token = await new CompactSign(new TextEncoder().encode(claims))
        .setProtectedHeader({ alg: 'HS256' })
        .sign(key);
      const body = mutate(random, NOTIFICATION);
      const received = parseJson(body);
      return (
        failureOf(() => {
          readNotification(received, ['/sessionId', '/metaInfo/sessionId']);
          const names = memberNames(received).join('\n');
          if (/[^\n\P{Cc}]/u.test(names) || names.length > 3_000) throw new Error('names that are no names');
          if (isSignature(mutate(random, `sha256=${'0'.repeat(64)}`), Buffer.from(body)))
            throw new Error('took a made-up signature');
        }) ?? (await failureOfAsync(() => isKoreToken(random.chance(0.5) ? token : mutate(random, token))))
      );
    },
    close: async () => {},
  };
}

const NOTIFICATION = JSON.stringify({
  event: 'conversation_terminated',
  metaInfo: JSON.stringify({ sessionId: '67ab573f3685d1ba99541234', a: JSON.stringify({ b: 1 }) }),
  CCAIMetaInfo: { sessionId: '67ab573f3685d1ba99541234', botId: 'st-1' },
});

async function openCheckpointTarget(): Promise<FuzzTarget> {
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-fuzz-'));
  const path = join(directory, 'audit');
  const scope = { kind: 'archive' } as const;
  const finding = { kind: 'missing', key: 'a', what: 'gone', repairable: true };
  const step = JSON.stringify({ findings: [finding], position: { unit: 'a/' }, totals: NO_TOTALS });
  const header = JSON.stringify({ verify: 2, archive: 'file:/a', scope: JSON.stringify(scope) });
  return {
    async feed(random) {
      await writeFile(path, mutate(random, `${header}\n${`${step}\n`.repeat(random.below(100))}`));
      return failureOfAsync(async () => {
        try {
          const checkpoint = await openCheckpoint(path, 'file:/a', scope);
          for await (const _ of checkpoint.findings());
          await checkpoint.close();
        } catch (error) {
          if (!(error instanceof CheckpointRefused)) throw error;
        }
      });
    },
    close: () => rm(directory, { recursive: true }),
  };
}
