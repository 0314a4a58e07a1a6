import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { keyId } from '../../src/signing/signatures.ts';
import { temporaryDirectory } from '../support/services.ts';

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(() => directory.remove());

async function load(pem: string) {
  const path = join(directory.path, 'key.pem');
  await writeFile(path, pem);
  return loadConfig({ MANIFEST_KEY_FILE: path }, { needs: [] });
}

const HINT = 'openssl genpkey -algorithm ed25519 -out key.pem';

describe('MANIFEST_KEY_FILE', () => {
  it('MANIFEST_KEY_FILE holds an Ed25519 private key, which is never shown', async () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const config = await load(pem);
    if (!config.manifestKey) throw new Error('it was given');
    expect(keyId(createPublicKey(config.manifestKey))).toBe(keyId(createPublicKey(privateKey)));
    expect(JSON.stringify(config)).not.toContain(pem.split('\n')[1]);
    expect(loadConfig({}, { needs: [] }).manifestKey).toBeUndefined();
  });

  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  it.each([
    ['an RSA key', rsa.export({ type: 'pkcs8', format: 'pem' }), 'holds a key of type rsa'],
    ['the public key', publicKey.export({ type: 'spki', format: 'pem' }), 'holds no private key in PEM'],
    [
      'a key with a passphrase',
      privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' }),
      'holds no private key in PEM without a passphrase',
    ],
    ['something else', 'no key at all', 'holds no private key in PEM'],
    ['nothing', '', 'holds no private key in PEM'],
  ])('MANIFEST_KEY_FILE refuses %s, and says how to make one', async (_, pem, why) => {
    await expect(load(pem.toString())).rejects.toThrow(why);
    await expect(load(pem.toString())).rejects.toThrow(HINT);
  });

  it('MANIFEST_KEY_FILE refuses a missing file, without its path', () => {
    const path = join(directory.path, 'nothing-here');
    const broken = () => loadConfig({ MANIFEST_KEY_FILE: path }, { needs: [] });
    expect(broken).toThrow("MANIFEST_KEY_FILE: the file can't be read (ENOENT)");
    expect(broken).not.toThrow('nothing-here');
  });
});
