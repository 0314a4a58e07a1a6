/** A signed archive in a directory, with a history of some days: times of files are as if it had been written then. */

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdir, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { SessionRef } from '../../src/domain/session.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { type SigningKey, signDocument, toSigningKey } from '../../src/signing/signatures.ts';
import { type DigestRun, writeDigests } from '../../src/signing/write-digests.ts';
import { buildManifest, type Manifest, nextRevision, serialize } from '../../src/storage/documents.ts';
import { createDirectoryStore } from '../../src/storage/fs/store.ts';
import { manifestKey, sessionPrefix } from '../../src/storage/layout.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { silent } from './queues.ts';
import { sha256 } from './storage-bodies.ts';

const never = new AbortController().signal;

/** A new key. */
export function newSigningKey(): SigningKey {
  return toSigningKey(generateKeyPairSync('ed25519').privateKey);
}

/** A signed archive. */
export class SignedArchive {
  readonly path: string;
  readonly botId: string;
  /** Past all signing. */
  readonly plain: ArchiveStore;
  key: SigningKey;
  #number = 0;

  constructor(path: string, { key = newSigningKey(), botId = 'bot-1' } = {}) {
    this.path = path;
    this.botId = botId;
    this.key = key;
    this.plain = createDirectoryStore(path);
  }

  /** Archives a session of one recording. @param at when. */
  async archive(at: Date, session = this.newSession(at)): Promise<SessionRef> {
    const key = `${sessionPrefix(session)}one.bin`;
    const body = randomBytes(16);
    await this.put(key, body);
    const recording = {
      key: this.plain.fullKey(key),
      fileName: 'one.bin',
      bytes: body.length,
      sha256: sha256(body),
      contentType: 'application/octet-stream',
      source: { host: 'media.example', path: '/one' },
      downloadedAt: at.toISOString(),
    };
    const transcript = { state: 'absent' as const };
    await this.write(
      session,
      buildManifest({ session, archivedAt: at, recordings: [recording], transcript }),
      at,
    );
    return session;
  }

  newSession(at: Date): SessionRef {
    this.#number += 1;
    return { botId: this.botId, sessionId: makeSessionId(new Date(at.getTime() + this.#number * 1000)) };
  }

  /** Writes the next revision of a manifest. */
  async revise(session: SessionRef, at: Date): Promise<void> {
    const before: Manifest = JSON.parse((await this.read(manifestKey(session))).toString());
    await this.write(session, nextRevision(before, before), at);
  }

  async write(session: SessionRef, manifest: Manifest, at: Date): Promise<void> {
    await this.put(manifestKey(session), signDocument(serialize(manifest), this.key));
    await this.age(manifestKey(session), at);
  }

  /** Erases a session, as the command does. */
  async erase({ sessionId, botId }: SessionRef, at: Date, isSigned = true): Promise<void> {
    const directory = sessionPrefix({ sessionId, botId });
    const key = `${directory}tombstone.json`;
    const record = { schemaVersion: 1, sessionId, botId, state: 'erased', erasedAt: at.toISOString() };
    const bytes = Buffer.from(`${JSON.stringify(record)}\n`);
    await this.remove(directory);
    await this.put(key, isSigned ? signDocument(bytes, this.key) : bytes);
    await this.age(key, at);
  }

  /** @param partEntries more entries than that are written in parts of so many. */
  async digest(now: Date, partEntries?: number): Promise<DigestRun> {
    const deps = { store: this.plain, key: this.key, now: () => now, log: silent };
    return writeDigests({ ...deps, ...(partEntries !== undefined && { partEntries }) }, never);
  }

  /** Writes a file past everything, and without waiting for the disk. @param key relative. */
  async put(key: string, bytes: Buffer): Promise<void> {
    const path = join(this.path, key);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, bytes);
  }

  async read(key: string): Promise<Buffer> {
    const bytes = await this.plain.read(key, never);
    if (!bytes) throw new Error(`${key} is not there`);
    return bytes;
  }

  /** @param key relative; of an object or a directory. */
  async remove(key: string): Promise<void> {
    await rm(join(this.path, key), { recursive: true, force: true });
  }

  async age(key: string, at: Date): Promise<void> {
    await utimes(join(this.path, key), at, at);
  }
}
