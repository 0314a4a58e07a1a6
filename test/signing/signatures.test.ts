import { execFileSync } from 'node:child_process';
import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../src/signing/canonical-json.ts';
import { checkSignature, readPublicKeys, signDocument, toSigningKey } from '../../src/signing/signatures.ts';
import { parseManifest } from '../../src/storage/documents.ts';
import { temporaryDirectory } from '../support/services.ts';
import { newSigningKey } from '../support/signed-archive.ts';

/** The published test vector: see docs/signatures.md. The key is that of RFC 8032, section 7.1, test 1. */
const fixture = (name: string) => readFileSync(join(import.meta.dirname, '../fixtures/signing', name));
const KEY = toSigningKey(createPrivateKey(fixture('private-key.pem')));
const KEYS = readPublicKeys([createPublicKey(fixture('public-key.pem'))]);
const SIGNED = fixture('manifest.json');

const canonicalOf = (bytes: Buffer) => {
  const { signature: _, ...unsigned } = JSON.parse(bytes.toString());
  return Buffer.from(canonicalJson(unsigned));
};

const opensslVersion = (() => {
  try {
    return execFileSync('openssl', ['version'], { encoding: 'utf8' });
  } catch {
    return undefined;
  }
})();

const MISSING = opensslVersion === undefined ? ' (needs OpenSSL: apt-get install openssl)' : '';

describe('the published test vector', () => {
  it('the published test vector has this canonical form, this signature and this key id', () => {
    expect(canonicalOf(SIGNED)).toEqual(fixture('manifest.canonical.json'));
    expect(KEY.kid).toBe('06e3fd8fda29bb60');
    expect(signDocument(SIGNED, KEY)).toEqual(SIGNED);
    expect(checkSignature(SIGNED, KEYS)).toEqual({ kind: 'valid', kid: KEY.kid });
    expect(parseManifest(SIGNED, 'k').signature).toMatchObject({ algorithm: 'Ed25519', kid: KEY.kid });
  });

  it.skipIf(opensslVersion === undefined)(
    `the test vector is accepted by OpenSSL, and refused with another byte${MISSING}`,
    async () => {
      const directory = await temporaryDirectory();
      try {
        const path = (name: string) => join(directory.path, name);
        const { signature } = JSON.parse(SIGNED.toString());
        writeFileSync(path('signature'), Buffer.from(signature.value, 'base64url'));
        writeFileSync(path('key.pem'), fixture('public-key.pem'));
        const check = (canonical: Buffer) => {
          writeFileSync(path('canonical'), canonical);
          const files = ['-inkey', path('key.pem'), '-in', path('canonical'), '-sigfile', path('signature')];
          const args = ['pkeyutl', '-verify', '-pubin', '-rawin', ...files];
          return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
        };
        const canonical = canonicalOf(SIGNED);
        expect(check(canonical)).toContain('Signature Verified Successfully');
        canonical[100] = (canonical[100] ?? 0) ^ 1;
        expect(() => check(canonical)).toThrow();
      } finally {
        await directory.remove();
      }
    },
  );

  it.skipIf(opensslVersion === undefined)(
    `the test vector has the key id that OpenSSL computes${MISSING}`,
    () => {
      const files = ['-in', join(import.meta.dirname, '../fixtures/signing/public-key.pem')];
      const der = execFileSync('openssl', ['pkey', '-pubin', ...files, '-outform', 'DER']);
      const digest = execFileSync('openssl', ['dgst', '-sha256', '-hex'], { input: der, encoding: 'utf8' });
      expect(digest.trim().split(' ').at(-1)?.slice(0, 16)).toBe(KEY.kid);
    },
  );
});

describe('a signed document', () => {
  it('a signed document is invalid with any bit of it changed', () => {
    for (let at = 0; at < SIGNED.length; at += 1) {
      for (const bit of [1, 32, 128]) {
        const changed = Buffer.from(SIGNED);
        changed[at] = (changed[at] ?? 0) ^ bit;
        expect(checkSignature(changed, KEYS).kind, `byte ${at}, bit ${bit}`).not.toBe('valid');
      }
    }
  });

  it.each([
    ['a blank', (text: string) => text.replace('{', '{ ')],
    ['a line more', (text: string) => `${text}\n`],
    ['a member twice', (text: string) => text.replace('{', '{"botId":"st-2",')],
    ['a number written otherwise', (text: string) => text.replace(':48044', ':48044.0')],
    ['a member more', (text: string) => text.replace('{', '{"more":1,')],
  ])('a signed document differs from the one that was written with %s', (_, change) => {
    expect(checkSignature(Buffer.from(change(SIGNED.toString())), KEYS).kind).toBe('wrong');
  });

  it('a signed document may have its members in another order', () => {
    const { signature, ...rest } = JSON.parse(SIGNED.toString());
    const reordered = Object.fromEntries(Object.entries(rest).reverse());
    const bytes = Buffer.from(`${JSON.stringify({ ...reordered, signature })}\n`);
    expect(checkSignature(bytes, KEYS).kind).toBe('valid');
  });

  it('a signed document is signed anew when it is signed again, with this key or another', () => {
    const other = newSigningKey();
    const again = signDocument(SIGNED, other);
    expect(checkSignature(again, KEYS)).toEqual({ kind: 'unknown-key', kid: other.kid });
    expect(checkSignature(again, readPublicKeys([other.publicKey])).kind).toBe('valid');
    expect(signDocument(again, KEY)).toEqual(SIGNED);
  });

  it('a signed document keeps numbers digit for digit, and can be signed whatever text is in it', () => {
    const source = String.raw`{"id":12345678901234567890123,"odd":"\ud800\\ud800 \udead","\udc00":"\u00fc","fine":"\ud83d\ude00"}`;
    const signed = signDocument(Buffer.from(source), KEY);
    expect(signed.toString()).toContain('12345678901234567890123');
    const { signature: _, id: __, ...rest } = JSON.parse(signed.toString());
    expect(rest).toEqual({ odd: '\ufffd\\ud800 \ufffd', '\ufffd': 'ü', fine: '😀' });
    expect(checkSignature(signed, KEYS).kind).toBe('valid');
  });

  it.each([
    ['nothing', ''],
    ['no JSON', '{'],
    ['a list', '[]'],
    ['no signature', '{}\n'],
    ['another algorithm', '{"signature":{"algorithm":"none","kid":"06e3fd8fda29bb60","value":""}}\n'],
    ['a signature that is none', '{"signature":"x"}\n'],
  ])('a document with %s is not a signed one', (_, text) => {
    expect(checkSignature(Buffer.from(text), KEYS)).toEqual({ kind: 'none' });
  });

  it('a signature over something without a canonical form is invalid', () => {
    const value = sign(null, Buffer.from('x'), KEY.privateKey).toString('base64url');
    const signature = { algorithm: 'Ed25519', kid: KEY.kid, value };
    const text = `${JSON.stringify({ odd: '\ud800', signature })}\n`;
    expect(checkSignature(Buffer.from(text), KEYS).kind).toBe('wrong');
  });
});
