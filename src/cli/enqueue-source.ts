import { open } from 'node:fs/promises';
import type { CliContext } from './context.ts';
import { UsageError } from './exit.ts';
import { type ListEntry, readSessionList } from './session-list.ts';

/** Stands for standard input. */
const STDIN = '-';

/** Whether the ids come from a list and not from the arguments. */
export function isList(ids: readonly string[], file: string | undefined): boolean {
  return file !== undefined || (ids.length === 1 && ids[0] === STDIN);
}

/**
 * Where the ids come from: the arguments, a file or standard input.
 * @throws UsageError when it is none of them, two of them, or no file that can be read.
 */
export async function openSource(
  context: CliContext,
  ids: readonly string[],
  file: string | undefined,
): Promise<AsyncIterable<ListEntry> | Iterable<ListEntry>> {
  if (ids.length > 0 && file !== undefined) throw new UsageError('give either ids or --file, not both');
  if (isList(ids, file)) {
    return readSessionList(file === undefined || file === STDIN ? context.stdin : await openFile(file));
  }
  if (ids.length === 0) throw new UsageError('no session ids: name some, or give a list with --file or -');
  return ids.map((sessionId, index) => ({ line: index + 1, session: { sessionId } }));
}

async function openFile(path: string): Promise<AsyncIterable<Buffer | string>> {
  try {
    const file = await open(path);
    // A directory opens, and fails when it is read.
    if ((await file.stat()).isDirectory()) {
      await file.close();
      throw new Error('it is a directory');
    }
    return file.createReadStream();
  } catch (error) {
    throw new UsageError(`--file ${path} cannot be read: ${(error as Error).message}`);
  }
}
