import { createPrivateKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Settings, sayCode } from './settings.ts';

const HOW_TO_MAKE_ONE = 'make one: openssl genpkey -algorithm ed25519 -out key.pem';

/** The key that `MANIFEST_KEY_FILE` names; `undefined` where it is unset or wrong. */
export function loadManifestKey(settings: Settings): KeyObject | undefined {
  const variable = 'MANIFEST_KEY_FILE';
  const path = settings.optional(variable, (text) => text);
  if (path === undefined) return undefined;
  let pem: string;
  try {
    pem = readFileSync(path, 'utf8');
  } catch (error) {
    // The path is not told: it is where a key is pasted by mistake.
    settings.addFault(variable, `the file can't be read (${sayCode(error)})`, {
      hint: 'give the path of a readable file',
    });
    return undefined;
  }
  const key = privateKeyOf(pem);
  if (key?.asymmetricKeyType === 'ed25519') return key;
  const found = key
    ? `holds a key of type ${key.asymmetricKeyType}`
    : 'holds no private key in PEM without a passphrase';
  settings.addFault(variable, `the file ${found}, where an Ed25519 private key is needed`, {
    hint: HOW_TO_MAKE_ONE,
  });
  return undefined;
}

function privateKeyOf(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined; // OpenSSL's reasons help nobody, and may quote the text
  }
}
