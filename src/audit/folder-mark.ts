import type { ListedObject } from '../storage/store.ts';

/** The empty objects by which consoles show folders in a bucket: nothing is in them, and nothing is wrong. */
export function isFolderMark({ key, bytes }: ListedObject): boolean {
  return bytes === 0 && (key === '' || key.endsWith('/'));
}
