/** Listing a directory store in the order of keys. Symbolic links are shown, and never followed. */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { compareKeys, TEMPORARY_SEGMENT } from '../keys.ts';
import type { ListedObject } from '../store.ts';
import { type HeldDirectory, holdWithin } from './directories.ts';
import { statIfThere } from './files.ts';

/** What a listing finds at a key: a file, the entries of a directory, or nothing any more. */
export type ListedEntry = ListedObject | { readonly names: readonly string[] } | undefined;

/**
 * Reads keys one after the other. The directory of the last one stays open, as the next key mostly lies in it as
 * well.
 */
export class DirectoryReader implements AsyncDisposable {
  readonly #root: string;
  #held: { readonly prefix: string; readonly directory: HeldDirectory | undefined } | undefined;

  /** @param root the archive's directory, absolute. */
  constructor(root: string) {
    this.#root = root;
  }

  /**
   * What is at a key.
   * @param key of a file, or of a directory with a `/` at its end; empty for the archive's own.
   */
  async look(key: string): Promise<ListedEntry> {
    const isDirectory = key === '' || key.endsWith('/');
    return isDirectory ? { names: await this.names(key) } : this.file(key);
  }

  /**
   * The keys of what is in a directory, in the order of keys; those of directories with a `/` at their ends. Symbolic
   * links are no directories.
   * @param prefix the directory's own key, with a `/` at its end; empty for the archive's own.
   */
  async names(prefix: string): Promise<string[]> {
    const directory = await this.#hold(prefix);
    if (!directory) return [];
    const names: string[] = [];
    for (const entry of await readdir(directory.path, { withFileTypes: true })) {
      const key = prefix + entry.name;
      if (key === TEMPORARY_SEGMENT && entry.isDirectory()) continue;
      names.push(entry.isDirectory() && !isGarbled(key) ? `${key}/` : key);
    }
    return names.sort(compareKeys);
  }

  /** What is no directory, as listings show it. */
  async file(key: string): Promise<ListedObject | undefined> {
    const slash = key.lastIndexOf('/') + 1;
    const directory = await this.#hold(key.slice(0, slash));
    const found = directory && (await statIfThere(directory.entry(key.slice(slash))));
    if (found?.isFile()) return { key, bytes: found.size, modifiedAt: found.mtime };
    if (!found && !isGarbled(key)) return undefined;
    return { key, bytes: 0, modifiedAt: new Date(0), isOther: true };
  }

  async #hold(prefix: string): Promise<HeldDirectory | undefined> {
    if (this.#held?.prefix !== prefix) {
      await this[Symbol.asyncDispose]();
      this.#held = {
        prefix,
        directory: await holdWithin(this.#root, join(this.#root, ...prefix.split('/'))),
      };
    }
    return this.#held?.directory;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const held = this.#held;
    this.#held = undefined;
    await held?.directory?.[Symbol.asyncDispose]();
  }
}

/** Names that are no UTF-8 come with the replacement character in them, and can't be looked up by it. */
function isGarbled(key: string): boolean {
  return key.includes('\uFFFD');
}

/** Whether nothing in this directory, or not this file, comes behind the key `after`. */
export function isBefore(key: string, after: string): boolean {
  const holdsAfter = key === '' || (key.endsWith('/') && after.startsWith(key) && after !== key);
  return !holdsAfter && compareKeys(key, after) <= 0;
}
