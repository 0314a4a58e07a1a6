/** What commands have in common that let workers list sessions at Kore: `backfill` and `completeness`. */

import { setTimeout as sleep } from 'node:timers/promises';
import { Option } from 'commander';
import { LISTING_SOURCES } from '../domain/backfills.ts';
import { type CliContext, CommandFailed } from './context.ts';

/** While nothing happens, the pause between two checks grows. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;
/** A worker takes a run within moments, unless it works on two already. */
const TAKEN_WITHIN_MS = 5_000;

/** `--source calls|sessions` */
export function sourceOption(): Option {
  return new Option(
    '--source <source>',
    'call details (needs KORE_ACCOUNT_ID) or sessions history (default: the first where that is possible)',
  ).choices(LISTING_SOURCES);
}

/** @throws CommandFailed where this command holds the queue, so that no worker could take what it waits for. */
export function assertWorkersReach({ isAlone }: { readonly isAlone: boolean }): void {
  if (!isAlone) return;
  throw new CommandFailed(
    'it is the workers that list sessions: this queue is embedded, and no worker can use it while this command holds it; run "voicemail-archiver start", then this again',
  );
}

/** How a run is followed. */
export interface FollowedRun<View> {
  readonly started: View;
  /** How it is now; nothing where it is gone. */
  poll(): Promise<View | undefined>;
  hasEnded(view: View): boolean;
  isTaken(view: View): boolean;
  /** Called after each check. */
  onPoll(view: View): void;
  /** For people: `the run`. */
  readonly name: string;
}

/**
 * Waits until a run has ended.
 * @throws CommandFailed when it is gone, or this command is stopped; the run goes on then.
 */
export async function followRun<View>(
  { started, poll, hasEnded, isTaken, onPoll, name }: FollowedRun<View>,
  { say }: Pick<CliContext, 'say'>,
  signal: AbortSignal,
): Promise<View> {
  let view = started;
  let pauseMs = FIRST_PAUSE_MS;
  let sayAt = Date.now() + TAKEN_WITHIN_MS;
  try {
    while (!hasEnded(view)) {
      await sleep(pauseMs, undefined, { signal });
      if (!isTaken(view) && Date.now() > sayAt) {
        sayAt = Number.POSITIVE_INFINITY;
        say('No worker has taken it yet: is one running, and is it busy with others?\n');
      }
      const next = await poll();
      if (next === undefined) throw new CommandFailed(`${name} was removed from the queue`);
      const isSame = JSON.stringify(next) === JSON.stringify(view);
      pauseMs = isSame ? Math.min(pauseMs * 1.5, LONGEST_PAUSE_MS) : FIRST_PAUSE_MS;
      view = next;
      onPoll(view);
    }
    return view;
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new CommandFailed(`${(signal.reason as Error).message}; ${name} goes on without this command`);
  }
}
