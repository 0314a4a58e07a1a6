import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';

/** The version in package.json, as in manifests, logs and `--version`. */
export const VERSION: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;

/** The user of the operating system that this process runs as. Containers may run as one without a name. */
export function osUser(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid-${process.getuid?.() ?? 'unknown'}`;
  }
}
