/** What is quickly written: BullMQ, `fetch` and lib-storage, and nothing checked. */

import type { ReadableStream } from 'node:stream/web';
import { S3Client } from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { type Job, Worker } from 'bullmq';
import type { SessionRef } from '../../src/domain/session.ts';
import { obey } from '../messages.ts';
import { type KoreAnswer, signToken, voicemailUrl } from './kore-api.ts';
import { readSettings } from './settings.ts';

const { config, kore, redisUrl, bucket, prefix } = readSettings();
const s3 = new S3Client({ forcePathStyle: true });

async function archive({ data }: Job<SessionRef>): Promise<void> {
  const { botId, sessionId } = data;
  const headers = { auth: await signToken(kore) };
  const metadata = await fetch(voicemailUrl(kore, sessionId), { headers });
  const voicemail = (await metadata.json()) as KoreAnswer;

  const recordings: string[] = [];
  for (const { fileName, fileUrl } of voicemail['voicemail recording']) {
    const recording = await fetch(fileUrl);
    const key = `${prefix}/${sessionId}/${fileName}`;
    await store(key, 'audio/wav', recording.body as ReadableStream<Uint8Array>);
    recordings.push(key);
  }
  await storeJson(`${prefix}/${sessionId}/transcript.json`, voicemail.transcriptions);
  await storeJson(`${prefix}/${sessionId}/manifest.json`, { botId, sessionId, recordings });
}

async function storeJson(key: string, document: unknown): Promise<void> {
  await store(key, 'application/json', JSON.stringify(document, null, 2));
}

async function store(key: string, type: string, body: ReadableStream<Uint8Array> | string): Promise<void> {
  const params = { Bucket: bucket, Key: key, ContentType: type, Body: body };
  await new Upload({ client: s3, params }).done();
}

const worker = new Worker(config.queue.name, archive, {
  connection: { url: redisUrl, maxRetriesPerRequest: null },
  concurrency: config.work.concurrency,
});
await worker.waitUntilReady();

obey({
  async stop() {
    await worker.close();
    s3.destroy();
  },
});
