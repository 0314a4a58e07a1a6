/**
 * The daily digests: what was added, replaced and erased in the archive, a signed document a day, each with the hash of
 * the one before. Who changes the archive afterwards, without the key, contradicts them.
 *
 * @see https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-intro.html the model.
 */

import { hash } from 'node:crypto';
import { z } from 'zod';
import type { ArchiveStore } from '../storage/store.ts';
import { parseJson } from '../util/json.ts';
import { type SigningKey, signDocument } from './signatures.ts';

/** The version of digests that this program writes and reads. */
const SCHEMA_VERSION = 1;

/** Where all digests lie: relative, with a `/` at its end. */
export const DIGESTS_DIRECTORY = 'digests/';
/** What is read of one: more than a year of voicemails has. */
export const MAX_DIGEST_BYTES = 512 * 1024 * 1024;
/** The entries of one part: a digest of more is written in parts of some megabytes each. */
export const PART_ENTRIES = 10_000;
const MAX_PART_BYTES = 64 * 1024 * 1024;

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const Time = z.iso.datetime();

const EntrySchema = z.looseObject({
  event: z.enum(['added', 'replaced', 'erased']),
  /** Relative to the archive's prefix, so that a copy of the archive can be verified. */
  key: z.string(),
  revision: z.int().positive(),
  /** Of the manifest; of an erased session, of the note that says so. */
  sha256: Sha256,
  previousSha256: Sha256.optional(),
  /** When the object was written, by the store's clock. */
  at: Time,
  /** As the manifest says. */
  archivedAt: z.string(),
  /** Which key signed it; left out of what was archived unsigned, before there were digests. */
  kid: z.string().optional(),
});

const PartSchema = z.looseObject({
  /** Relative to the archive's prefix. */
  key: z.string(),
  /** Of its bytes. */
  sha256: Sha256,
  entries: z.int().positive(),
});

const DigestSchema = z.looseObject({
  schemaVersion: z.literal(SCHEMA_VERSION),
  date: z.iso.date(),
  createdAt: Time,
  /** Whatever was written up to then is in this digest or an earlier one. */
  coversTo: Time,
  previous: z.looseObject({ date: z.iso.date(), sha256: Sha256 }).nullable(),
  entries: z.array(EntrySchema),
  /** Objects that hold more entries, a line of JSON each, in their order; signed by their hashes. */
  parts: z.array(PartSchema).exactOptional(),
});

/** One thing that happened to a session's manifest. */
export type DigestEntry = z.infer<typeof EntrySchema>;
/** `digests/date=…/digest.json`, without its signature. */
export type Digest = z.infer<typeof DigestSchema>;
/** A part of a digest that is written in parts. */
export type DigestPart = z.infer<typeof PartSchema>;

/** Relative key of the digest of a day (`YYYY-MM-DD`). */
export function digestKey(date: string): string {
  return `${DIGESTS_DIRECTORY}date=${date}/digest.json`;
}

/** What lies where digests lie: the digest of a day, or a part of one. `undefined` for any other key. */
export function readDigestKey(
  key: string,
): { readonly date: string; readonly kind: 'digest' | 'part' } | undefined {
  const found = /^digests\/date=(\d{4}-\d{2}-\d{2})\/(?:(digest\.json)|part-[0-9a-f]{64}\.jsonl)$/.exec(key);
  const [, date, isDigest] = found ?? [];
  if (date === undefined || !z.iso.date().safeParse(date).success) return undefined;
  return { date, kind: isDigest === undefined ? 'part' : 'digest' };
}

/**
 * The bytes of a part, and how the digest names it. Its name is made of its hash, so that two writers never collide.
 */
export function sealPart(
  date: string,
  entries: readonly DigestEntry[],
): { readonly part: DigestPart; readonly bytes: Buffer } {
  const bytes = Buffer.from(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
  const sha256 = hash('sha256', bytes);
  const key = `${DIGESTS_DIRECTORY}date=${date}/part-${sha256}.jsonl`;
  return { part: { key, sha256, entries: entries.length }, bytes };
}

/** What a part came to when it was read. */
export type PartRead =
  | { readonly kind: 'read'; readonly entries: readonly DigestEntry[] }
  | { readonly kind: 'missing' | 'changed' };

/** Reads a part of a digest. @throws what the store throws. */
export async function readPart(
  { key, sha256 }: DigestPart,
  store: Pick<ArchiveStore, 'read'>,
  signal: AbortSignal,
): Promise<PartRead> {
  const bytes = await store.read(key, signal, MAX_PART_BYTES);
  if (!bytes) return { kind: 'missing' };
  if (hash('sha256', bytes) !== sha256) return { kind: 'changed' };
  const lines = bytes.toString('utf8').split('\n').slice(0, -1);
  const entries = z.array(EntrySchema).safeParse(lines.map((line) => parseJson(line)));
  return entries.success ? { kind: 'read', entries: entries.data } : { kind: 'changed' };
}

/** The bytes of a digest as they are stored. */
export function sealDigest(facts: Omit<Digest, 'schemaVersion'>, key: SigningKey): Buffer {
  return signDocument(Buffer.from(JSON.stringify({ schemaVersion: SCHEMA_VERSION, ...facts })), key);
}

/** Reads a digest back; `undefined` for what is none. Says nothing of its signature. */
export function parseDigest(bytes: Buffer): Digest | undefined {
  return DigestSchema.safeParse(parseJson(bytes.toString('utf8'))).data;
}
