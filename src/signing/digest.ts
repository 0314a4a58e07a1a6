/**
 * The daily digests: what was added, replaced and erased in the archive, a signed document a day, each with the hash of
 * the one before. Who changes the archive afterwards, without the key, contradicts them.
 *
 * @see https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-intro.html the model.
 */

import { z } from 'zod';
import { parseJson } from '../util/json.ts';
import { type SigningKey, signDocument } from './signatures.ts';

/** The version of digests that this program writes and reads. */
const SCHEMA_VERSION = 1;

/** Where all digests lie: relative, with a `/` at its end. */
export const DIGESTS_DIRECTORY = 'digests/';
/** What is read of one: more than a year of voicemails has. */
export const MAX_DIGEST_BYTES = 512 * 1024 * 1024;

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

const DigestSchema = z.looseObject({
  schemaVersion: z.literal(SCHEMA_VERSION),
  date: z.iso.date(),
  createdAt: Time,
  /** Whatever was written up to then is in this digest or an earlier one. */
  coversTo: Time,
  previous: z.looseObject({ date: z.iso.date(), sha256: Sha256 }).nullable(),
  entries: z.array(EntrySchema),
});

/** One thing that happened to a session's manifest. */
export type DigestEntry = z.infer<typeof EntrySchema>;
/** `digests/date=…/digest.json`, without its signature. */
export type Digest = z.infer<typeof DigestSchema>;

/** Relative key of the digest of a day (`YYYY-MM-DD`). */
export function digestKey(date: string): string {
  return `${DIGESTS_DIRECTORY}date=${date}/digest.json`;
}

/** The day of a digest by its key; `undefined` for any other key. */
export function readDigestKey(key: string): string | undefined {
  const date = /^digests\/date=(\d{4}-\d{2}-\d{2})\/digest\.json$/.exec(key)?.[1];
  return date !== undefined && z.iso.date().safeParse(date).success ? date : undefined;
}

/** The bytes of a digest as they are stored. */
export function sealDigest(facts: Omit<Digest, 'schemaVersion'>, key: SigningKey): Buffer {
  return signDocument(Buffer.from(JSON.stringify({ schemaVersion: SCHEMA_VERSION, ...facts })), key);
}

/** Reads a digest back; `undefined` for what is none. Says nothing of its signature. */
export function parseDigest(bytes: Buffer): Digest | undefined {
  return DigestSchema.safeParse(parseJson(bytes.toString('utf8'))).data;
}
