/**
 * Looks at what a chaos run came to, with nothing of the product's own code: the bucket is read by a plain client and
 * compared with what Kore had.
 */

import { createHash } from 'node:crypto';
import { Redis } from 'ioredis';
import type { Truth, World } from './environment.ts';

interface ManifestOnDisk {
  readonly sessionId: string;
  readonly revision?: number;
  readonly recordings: readonly {
    readonly key: string;
    readonly bytes: number;
    readonly sha256: string;
    readonly integrity?: { readonly state: string };
    readonly supersededBy?: string;
  }[];
  readonly transcript: { readonly state: string; readonly key?: string; readonly sha256?: string };
}

/** What is wrong, one line each; empty when nothing is. */
export async function checkWorld(world: World): Promise<string[]> {
  const faults: string[] = [];
  const byKey = new Map<string, Buffer>();
  for (const key of await world.bucket.listObjects()) byKey.set(key, await world.bucket.getObject(key));
  const named = new Set<string>();
  for (const truth of world.truths.values()) faults.push(...checkSession(truth, byKey, named));
  for (const key of byKey.keys()) {
    const isNamed =
      named.has(key) || key.endsWith('/manifest.json') || key.endsWith('/manifest.partial.json');
    if (!isNamed && !key.includes('/_')) faults.push(`${key}: no manifest names it`);
  }
  faults.push(...(await checkViews(world)));
  faults.push(...world.sandbox.violations.map((text) => `Kore saw: ${text}`));
  faults.push(...checkLogs(world), ...(await checkQueue(world)));
  return faults;
}

function checkSession(truth: Truth, byKey: ReadonlyMap<string, Buffer>, named: Set<string>): string[] {
  const { sessionId } = truth;
  const folder = `/session_id=${sessionId}/`;
  const found = [...byKey.keys()].filter((key) => key.endsWith(`${folder}manifest.json`));
  const manifestBytes = byKey.get(found[0] ?? '');
  if (found.length !== 1 || !manifestBytes) return [`${sessionId}: ${found.length} manifests`];
  const manifest = JSON.parse(manifestBytes.toString()) as ManifestOnDisk;
  const faults: string[] = [];
  for (const recording of manifest.recordings) {
    const bytes = byKey.get(recording.key);
    named.add(recording.key);
    if (!bytes) faults.push(`${sessionId}: ${recording.key} is missing`);
    else if (sha256(bytes) !== recording.sha256 || bytes.length !== recording.bytes)
      faults.push(`${sessionId}: ${recording.key} is not what its manifest says`);
    if (
      recording.supersededBy === undefined &&
      recording.integrity &&
      recording.integrity.state !== 'verified' &&
      recording.integrity.state !== 'unverified'
    )
      faults.push(`${sessionId}: ${recording.key} is ${recording.integrity.state}`);
  }
  const current = manifest.recordings.filter(({ supersededBy }) => supersededBy === undefined);
  const hashes = current.map((recording) => recording.sha256).sort();
  if (hashes.join() !== [...truth.recordings].sort().join())
    faults.push(
      `${sessionId}: ${hashes.length} recordings, not the ${truth.recordings.length} that Kore has`,
    );
  const transcript = byKey.get(manifest.transcript.key ?? '');
  named.add(manifest.transcript.key ?? '');
  if (truth.texts.length === 0) {
    if (manifest.transcript.state === 'archived') faults.push(`${sessionId}: a transcript from nowhere`);
  } else if (manifest.transcript.state !== 'archived' || !transcript) {
    faults.push(`${sessionId}: the transcript is ${manifest.transcript.state}`);
  } else if (sha256(transcript) !== manifest.transcript.sha256) {
    faults.push(`${sessionId}: the transcript is not what the manifest says`);
  } else if (!truth.texts.every((text) => transcript.includes(text))) {
    faults.push(`${sessionId}: the transcript lacks text`);
  }
  return faults;
}

/** The queue's views agree with the manifests. */
async function checkViews({ archiver, truths }: World): Promise<string[]> {
  const faults: string[] = [];
  for (const { sessionId, recordings } of truths.values()) {
    const view = await archiver.get(sessionId);
    const hashes = (view?.recordings ?? []).map((recording) => recording.sha256).sort();
    if (view?.state !== 'archived')
      faults.push(`${sessionId}: its view says ${view?.state} ${view?.error?.code ?? ''}`);
    else if (hashes.join() !== [...recordings].sort().join())
      faults.push(`${sessionId}: its view names others`);
  }
  return faults;
}

function checkLogs(world: World): string[] {
  const logs = world.workers.map(({ logs }) => logs).join('\n');
  const faults = secretsIn(logs, world).map((what) => `a log holds ${what}`);
  for (const line of logs.split('\n')) {
    if (/"code":"INTERNAL"|unhandled|uncaught/i.test(line)) faults.push(`a log says: ${line.slice(0, 300)}`);
  }
  return faults;
}

/** Redis holds no secret. */
async function checkQueue(world: World): Promise<string[]> {
  if (!world.queue.url.startsWith('redis:')) return [];
  const redis = new Redis(world.queue.url);
  try {
    const texts: string[] = [];
    for await (const keys of redis.scanStream() as AsyncIterable<string[]>) {
      for (const key of keys) {
        const type = await redis.type(key);
        if (type === 'hash') texts.push(JSON.stringify(await redis.hgetall(key)));
        else if (type === 'stream') texts.push(JSON.stringify(await redis.xrange(key, '-', '+')));
        else if (type === 'list') texts.push(JSON.stringify(await redis.lrange(key, 0, -1)));
        else if (type === 'string') texts.push((await redis.get(key)) ?? '');
      }
    }
    return secretsIn(texts.join('\n'), world).map((what) => `Redis holds ${what}`);
  } finally {
    redis.disconnect();
  }
}

function secretsIn(text: string, { sandbox, truths }: World): string[] {
  const found: string[] = [];
  if (text.includes(sandbox.clientSecret)) found.push('the client secret');
  if (/[?&]s=[A-Za-z0-9+/%]{10}|X-Amz-Signature=[0-9a-f]{10}/i.test(text)) found.push('a signed URL');
  if (/\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\./.test(text)) found.push('a token');
  for (const { texts } of truths.values()) {
    if (texts.some((words) => text.includes(words))) found.push('the text of a transcript');
  }
  return [...new Set(found)];
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
