/** Temporary files of JSON lines, for what is too much to be held in memory. */

import { createReadStream } from 'node:fs';
import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** Some files in a directory of their own. Names are names of files. */
export interface LineFiles {
  /** Adds values to the end of a file. */
  append(name: string, values: readonly unknown[]): Promise<void>;
  /**
   * The values of a file that was written, as they were added and as JSON has them, at most `size` at a time.
   * `Value` is what was added.
   */
  read<Value>(name: string, size: number): AsyncGenerator<Value[]>;
  /** Removes the files. */
  remove(): Promise<void>;
}

/** Makes an empty directory among the system's temporary files. */
export async function openLineFiles(): Promise<LineFiles> {
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-'));
  return {
    async append(name, values) {
      const lines = values.map((value) => `${JSON.stringify(value)}\n`);
      if (lines.length > 0) await appendFile(join(directory, name), lines.join(''));
    },
    async *read<Value>(name: string, size: number) {
      const lines = createInterface({ input: createReadStream(join(directory, name)), crlfDelay: Infinity });
      let batch: Value[] = [];
      for await (const line of lines) {
        batch.push(JSON.parse(line));
        if (batch.length < size) continue;
        yield batch;
        batch = [];
      }
      if (batch.length > 0) yield batch;
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
