import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode } from '../errors.ts';

/**
 * The directory itself where it is there, else the innermost one above it that is.
 * @param path absolute.
 * @throws the file system's own error, `ENOTDIR` where something else has the name of one of them.
 */
export async function nearestDirectory(path: string): Promise<string> {
  for (let current = path; ; current = dirname(current)) {
    try {
      if ((await stat(current)).isDirectory()) return current;
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' || dirname(current) === current) throw error;
      continue;
    }
    throw Object.assign(new Error(`${current} is no directory`), { code: 'ENOTDIR' });
  }
}
