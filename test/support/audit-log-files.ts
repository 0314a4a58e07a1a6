/** The audit log of a program that archives into a directory. */

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A line of it. */
export interface AuditLogLine {
  readonly action: string;
  readonly actor: { readonly name: string; readonly via: string };
  readonly details?: Readonly<Record<string, unknown>>;
}

/** All lines so far, in their order. */
export async function auditLogEntries(archive: string): Promise<AuditLogLine[]> {
  const files = await readdir(join(archive, 'audit'), { recursive: true, withFileTypes: true }).catch(
    () => [],
  );
  const paths = files.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name));
  const texts = await Promise.all(paths.sort().map((path) => readFile(path, 'utf8')));
  const lines = texts.flatMap((text) => text.trim().split('\n').filter(Boolean));
  return lines
    .map((line) => JSON.parse(line) as AuditLogLine & { at: string })
    .sort((a, b) => a.at.localeCompare(b.at));
}
