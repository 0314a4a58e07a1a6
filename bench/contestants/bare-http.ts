/**
 * The floor: the HTTP exchanges that the archiver has for each session, by `node:http` alone, with the recording
 * piped through. No queue, no checks, no library.
 */

import { once } from 'node:events';
import {
  Agent,
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request,
} from 'node:http';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { obey } from '../messages.ts';
import { type KoreAnswer, signToken, voicemailUrl } from './kore-api.ts';
import { signed } from './s3-signature.ts';
import { readSettings } from './settings.ts';

const { config, kore, bucket, prefix, s3 } = readSettings();
const agent = new Agent({ keepAlive: true });

async function archive(sessionId: string, auth: string): Promise<void> {
  const folder = `${s3.endpoint}/${bucket}/${prefix}/${sessionId}`;
  await exchange(openS3('GET', `${folder}/manifest.json`));

  const metadata = await exchange(open('GET', voicemailUrl(kore, sessionId), { auth }));
  const voicemail = JSON.parse(metadata) as KoreAnswer;

  const recordings: string[] = [];
  for (const { fileName, fileUrl } of voicemail['voicemail recording']) {
    const download = open('GET', fileUrl);
    download.end();
    const [recording] = (await once(download, 'response')) as [IncomingMessage];
    await put(`${folder}/${fileName}`, 'audio/wav', Number(recording.headers['content-length']), (upload) =>
      pipeline(recording, upload),
    );
    recordings.push(fileName);
  }
  await putJson(`${folder}/transcript.json`, voicemail.transcriptions);
  await putJson(`${folder}/manifest.json`, { sessionId, recordings });
}

async function putJson(url: string, document: unknown): Promise<void> {
  const body = JSON.stringify(document, null, 2);
  await put(url, 'application/json', Buffer.byteLength(body), async (upload) => {
    upload.end(body);
  });
}

async function put(
  url: string,
  contentType: string,
  bytes: number,
  write: (upload: ClientRequest) => Promise<void>,
): Promise<void> {
  const upload = openS3('PUT', url, {
    'content-type': contentType,
    'content-length': String(bytes),
  });
  const [[answer]] = await Promise.all([
    once(upload, 'response') as Promise<[IncomingMessage]>,
    write(upload),
  ]);
  await text(answer);
  if (answer.statusCode !== 200) throw new Error(`the store answered ${answer.statusCode}`);
}

/** Sends a request without a body; returns the body of the answer. */
async function exchange(sent: ClientRequest): Promise<string> {
  sent.end();
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  return text(answer);
}

function openS3(method: string, url: string, headers: Readonly<Record<string, string>> = {}): ClientRequest {
  return open(method, url, signed(method, new URL(url), headers, s3));
}

function open(method: string, url: string, headers: OutgoingHttpHeaders = {}): ClientRequest {
  return request(url, { method, headers, agent });
}

obey({
  async archive(sessionIds) {
    const auth = await signToken(kore);
    const left = [...sessionIds];
    const archiveRest = async () => {
      for (let id = left.shift(); id !== undefined; id = left.shift()) await archive(id, auth);
    };
    await Promise.all(Array.from({ length: config.work.concurrency }, archiveRest));
  },
  async stop() {
    agent.destroy();
  },
});
