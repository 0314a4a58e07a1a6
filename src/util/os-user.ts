import { userInfo } from 'node:os';

/** The user of the operating system that this process runs as. Containers may run as one without a name. */
export function osUser(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid-${process.getuid?.() ?? 'unknown'}`;
  }
}
