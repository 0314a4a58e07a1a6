import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { setFlagsFromString } from 'node:v8';

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

/** How much V8's heap may grow from one collection to the next (percent); V8 itself lets it double and more. */
const GROWTH_PERCENT = 75;

/**
 * Makes V8 collect garbage sooner, for the whole process. Audio lies outside of its heap and is freed only when the
 * small objects that hold it are collected. Unlike the size of the young generation, this can be set while Node runs:
 * https://nodejs.org/api/v8.html#v8setflagsfromstringflags
 */
export function collectSooner(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
