/**
 * Ed25519 signatures (RFC 8032) of JSON documents: over the canonical form (RFC 8785) of the document without its
 * member `signature`. How to check one by hand with OpenSSL is in docs/signatures.md.
 */

import { createPublicKey, hash, type KeyObject, sign, verify } from 'node:crypto';
import { z } from 'zod';
import { isTombstoneName, MANIFEST_NAME, PARTIAL_MANIFEST_NAME, readSessionKey } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { isObject, type JsonObject, parseJson } from '../util/json.ts';
import { canonicalJson, NotCanonical } from './canonical-json.ts';

const ALGORITHM = 'Ed25519';

/** The member `signature` of a signed document. */
const SignatureSchema = z.looseObject({
  algorithm: z.literal(ALGORITHM),
  /** Which key signed: see {@link keyId}. */
  kid: z.string(),
  /** base64url, without padding. */
  value: z.string(),
});

/** A key that signs. */
export interface SigningKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  /** Its other half. */
  readonly publicKey: KeyObject;
}

/** Keys that signatures are checked with, by their ids. */
export type PublicKeys = ReadonlyMap<string, KeyObject>;

/** Long enough that no two keys of an archive share it. */
const KID_CHARACTERS = 16;

/** The id of a key: the first 16 hex digits of the SHA-256 of the public key (SPKI, DER). */
export function keyId(publicKey: KeyObject): string {
  return hash('sha256', publicKey.export({ type: 'spki', format: 'der' })).slice(0, KID_CHARACTERS);
}

/** @param privateKey Ed25519. */
export function toSigningKey(privateKey: KeyObject): SigningKey {
  const publicKey = createPublicKey(privateKey);
  return { kid: keyId(publicKey), privateKey, publicKey };
}

/** @param keys Ed25519 public keys. */
export function readPublicKeys(keys: readonly KeyObject[]): PublicKeys {
  return new Map(keys.map((key) => [keyId(key), key]));
}

/**
 * The document signed, in place of any signature that it has. The bytes are as all documents of the archive are stored:
 * one line of JSON, the signature last. The same document and key give the same bytes.
 *
 * @param bytes a JSON object; numbers keep their digits.
 * @throws TypeError when it is no JSON object.
 */
export function signDocument(bytes: Buffer, key: SigningKey): Buffer {
  const received = parseJson(bytes.toString('utf8'));
  if (!isObject(received)) throw new TypeError('only JSON objects are signed');
  const document = parseJson(withoutLoneSurrogates(JSON.stringify(received))) as JsonObject;
  const { signature: _, ...unsigned } = document;
  const value = sign(null, signedBytes(JSON.stringify(unsigned)), key.privateKey).toString('base64url');
  const signature = { algorithm: ALGORITHM, kid: key.kid, value };
  return Buffer.from(`${JSON.stringify({ ...unsigned, signature })}\n`);
}

/**
 * What a signature came to. `valid`: it fits, and the bytes are those that were written. `wrong`: the key is known and
 * the signature does not fit, or the bytes are not those that were written. `unknown-key`: signed with a key that was
 * not given. `none`: not signed, or no JSON object at all.
 */
export type SignatureCheck =
  | { readonly kind: 'valid' | 'wrong' | 'unknown-key'; readonly kid: string }
  | { readonly kind: 'none' };

/** Checks the signature of a document. */
export function checkSignature(bytes: Buffer, keys: PublicKeys): SignatureCheck {
  const written = bytes.toString('utf8');
  const document = parseJson(written);
  if (!isObject(document)) return { kind: 'none' };
  const signature = SignatureSchema.safeParse(document.signature).data;
  if (!signature) return { kind: 'none' };
  const { kid, value } = signature;
  const key = keys.get(kid);
  if (!key) return { kind: 'unknown-key', kid };
  // A member that is there twice, or other blanks: the same document to a parser, and not what was written.
  const isAsWritten = Buffer.from(`${JSON.stringify(document)}\n`).equals(bytes);
  const isValid = isAsWritten && fits(document, value, key);
  return { kind: isValid ? 'valid' : 'wrong', kid };
}

function fits({ signature: _, ...unsigned }: JsonObject, value: string, key: KeyObject): boolean {
  try {
    return verify(null, signedBytes(JSON.stringify(unsigned)), key, Buffer.from(value, 'base64url'));
  } catch (error) {
    if (error instanceof NotCanonical) return false;
    throw error;
  }
}

/** What is signed: the canonical form of a JSON text, as UTF-8. */
function signedBytes(json: string): Buffer {
  return Buffer.from(canonicalJson(JSON.parse(json)));
}

/**
 * `JSON.stringify` writes lone surrogates, and nothing else, as escapes of `\ud800` to `\udfff`. They have no canonical
 * form, and must not keep a session from being archived: they become U+FFFD, as in every conversion to UTF-8.
 */
function withoutLoneSurrogates(json: string): string {
  return json.replace(/\\(?:ud[89a-f][0-9a-f]{2}|.)/g, (found) => (found.length === 2 ? found : '\ufffd'));
}

/**
 * The same store, but what records a session is signed as it is written: manifests, partial manifests and the notes
 * that a session was erased. So every writer signs, and a new revision never carries the signature of the one before.
 */
export function signingStore(store: ArchiveStore, key: SigningKey): ArchiveStore {
  return {
    ...store,
    write: (at, body, info, mode, signal) =>
      store.write(at, isSigned(at) ? signDocument(body, key) : body, info, mode, signal),
  };
}

function isSigned(key: string): boolean {
  const name = readSessionKey(key)?.name;
  if (name === undefined) return false;
  return name === MANIFEST_NAME || name === PARTIAL_MANIFEST_NAME || isTombstoneName(name);
}
