import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** A function that tells whether a text is one of the secrets; it takes the same time whichever it is, or none. */
export function createSecretCheck(secrets: readonly string[]): (presented: string) => boolean {
  const accepted = secrets.map(digest);
  return (presented) => isAmong(digest(presented), accepted);
}

/**
 * A function that tells whether `sha256=<hex>` is the HMAC-SHA256 of the bytes by one of the secrets, in the same
 * time whichever it is, or none.
 */
export function createSignatureCheck(
  secrets: readonly string[],
): (signature: string, bytes: Uint8Array) => boolean {
  return (signature, bytes) => {
    const hex = /^sha256=([0-9a-f]{64})$/i.exec(signature.trim())?.[1];
    if (hex === undefined) return false;
    const accepted = secrets.map((secret) => createHmac('sha256', secret).update(bytes).digest());
    return isAmong(Buffer.from(hex, 'hex'), accepted);
  };
}

/** All are of the length of a SHA-256. */
function isAmong(given: Buffer, accepted: readonly Buffer[]): boolean {
  let isFound = false;
  for (const candidate of accepted) isFound = timingSafeEqual(given, candidate) || isFound;
  return isFound;
}

/** Makes all secrets equally long, as comparing in constant time needs. */
function digest(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}
