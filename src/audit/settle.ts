import { setTimeout as delay } from 'node:timers/promises';
import type { ListedObject } from '../storage/store.ts';

/**
 * Waits until the youngest of some objects was written so long ago: what is being archived or taken away at this
 * moment has mostly found its end by then.
 *
 * @returns whether it had to wait.
 */
export async function settle(
  objects: readonly ListedObject[],
  settleMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const youngest = objects.reduce((latest, { modifiedAt }) => Math.max(latest, modifiedAt.getTime()), 0);
  // The store's clock may be ahead of ours.
  const waitMs = Math.min(settleMs, youngest + settleMs - Date.now());
  if (waitMs <= 0) return false;
  await delay(waitMs, undefined, { signal });
  return true;
}
