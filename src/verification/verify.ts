import { isVoicemailError } from '../domain/errors.ts';
import { readSessionKey } from '../storage/layout.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';
import { fullKeyOf, waitUntilSettled } from './check-object.ts';
import { checkSession } from './check-session.ts';
import type { Checkpoint } from './checkpoint.ts';
import {
  addOutcome,
  type CheckOutcome,
  type Finding,
  NO_OUTCOME,
  NO_TOTALS,
  type Totals,
} from './findings.ts';
import { planUnits, type Scope } from './scope.ts';
import { type Task, unitsFrom, walk } from './walk.ts';

/** The progress of a verification. */
export interface VerificationProgress {
  /** Requested sessions, or listed directories: dates, mostly. */
  readonly units: number;
  readonly unitsDone: number;
  readonly totals: Totals;
}

/** What a verification uses. */
export interface VerificationDeps {
  readonly store: ArchiveStore;
  /** Sessions that are checked at a time. */
  readonly concurrency: number;
  /** How old the objects of a session must be before a finding is believed (milliseconds); default 10 s. */
  readonly settleMs?: number;
  /** Where to go on from, and where to note how far it came. */
  readonly checkpoint?: Checkpoint;
  /** Called for each finding, one after the other, those of earlier runs first. */
  readonly onFinding: (finding: Finding) => Promise<void>;
  readonly onProgress?: (progress: VerificationProgress) => void;
}

/** A recording is followed by its manifest within seconds, unless it is followed by a large one. */
const SETTLE_MS = 10_000;

/**
 * Reads archived objects again and compares them with their manifests. Memory is bounded whatever the size of the
 * archive, of a recording, or the number of findings; nothing is written to the archive.
 *
 * @returns the totals, with those of earlier runs where there is a checkpoint.
 * @throws VoicemailError when the archive can't be listed or read at all; the signal's reason when aborted.
 */
export async function verifyArchive(
  scope: Scope,
  deps: VerificationDeps,
  signal: AbortSignal,
): Promise<Totals> {
  const { store, concurrency, settleMs = SETTLE_MS, checkpoint, onFinding, onProgress } = deps;
  const units = await planUnits(scope, store, signal);
  const open = unitsFrom(units, checkpoint?.position);
  let totals = checkpoint?.totals ?? NO_TOTALS;
  let unitsDone = units.length - open.length;
  if (checkpoint) for await (const finding of checkpoint.findings()) await onFinding(finding);
  onProgress?.({ units: units.length, unitsDone, totals });

  const tasks = walk(open, checkpoint?.position, { scope, store }, signal);
  const work = async (task: Task, either: AbortSignal) => ({
    task,
    outcome: await inspect(task, { store, settleMs }, either),
  });
  for await (const { task, outcome } of inOrder(tasks, work, concurrency, signal)) {
    totals = addOutcome(totals, outcome);
    if (task.kind === 'end') unitsDone += 1;
    for (const finding of outcome.findings) await onFinding(finding);
    await checkpoint?.add(outcome.findings, task.position, totals);
    onProgress?.({ units: units.length, unitsDone, totals });
  }
  return totals;
}

async function inspect(
  task: Task,
  deps: { readonly store: ArchiveStore; readonly settleMs: number },
  signal: AbortSignal,
): Promise<CheckOutcome> {
  const { store } = deps;
  switch (task.kind) {
    case 'session':
      return checkSession(task.listed, deps, signal);
    case 'foreign':
      return (await isStillThere(task.object, deps, signal)) ? only(foreign(task.object, store)) : NO_OUTCOME;
    case 'closed':
      return only(closed(task.key, task.fault, store));
    case 'end':
      return NO_OUTCOME;
  }
}

function only(finding: Finding): CheckOutcome {
  return { ...NO_OUTCOME, findings: [finding] };
}

/** An object that was written a moment ago may be about to be removed again. */
async function isStillThere(
  object: ListedObject,
  { store, settleMs }: { readonly store: ArchiveStore; readonly settleMs: number },
  signal: AbortSignal,
): Promise<boolean> {
  if (!(await waitUntilSettled([object], settleMs, signal))) return true;
  try {
    return (await store.head(object.key, signal)) !== undefined;
  } catch (error) {
    // It was listed, so it is there, even if it can't be requested: stores refuse some keys.
    if (isVoicemailError(error) && !signal.aborted) return true;
    throw error;
  }
}

function foreign({ key, bytes, isOther }: ListedObject, store: ArchiveStore): Finding {
  return {
    kind: 'orphaned',
    key: fullKeyOf(store, key),
    what: isOther
      ? 'it is neither file nor directory (a symbolic link, a pipe), or has a name that is no text'
      : 'it lies where the archive keeps nothing',
    found: { bytes },
    repairable: false,
  };
}

function closed(key: string, fault: string, store: ArchiveStore): Finding {
  return {
    kind: 'unreadable',
    key: fullKeyOf(store, key),
    ...readSessionKey(key)?.session,
    what: fault,
    repairable: false,
  };
}
/** How many results may wait for an earlier, slower one, for each piece of work at a time. */
const WINDOW_PER_WORKER = 4;

/**
 * Works on several items at a time, and yields the results in the order of the items, each as soon as those before
 * it are there.
 *
 * Ends with the first error, once all that was begun has ended.
 *
 * @param work gets a signal that is also aborted when the results are no longer wanted.
 */
export async function* inOrder<Item, Result>(
  items: AsyncIterable<Item>,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
  concurrency: number,
  signal: AbortSignal,
): AsyncGenerator<Result> {
  const end = new AbortController();
  const either = AbortSignal.any([signal, end.signal]);
  const running = new Set<Promise<void>>();
  const window: { readonly result: Promise<Result>; isDone: boolean }[] = [];
  const start = (item: Item) => {
    const result = work(item, either);
    const entry = { result, isDone: false };
    window.push(entry);
    // `result` itself rejects when it is awaited below.
    const done: Promise<void> = result.then(
      () => settled(),
      () => settled(),
    );
    const settled = () => {
      entry.isDone = true;
      running.delete(done);
    };
    running.add(done);
  };
  /** Yields the first results for as long as `want` holds of what is there. */
  const take = async function* (want: () => boolean | undefined): AsyncGenerator<Result> {
    for (let first = want() && window.shift(); first; first = want() && window.shift())
      yield await first.result;
  };
  try {
    for await (const item of items) {
      while (running.size >= concurrency) {
        await Promise.race(running);
        yield* take(() => window[0]?.isDone);
      }
      start(item);
      yield* take(() => window.length >= concurrency * WINDOW_PER_WORKER);
    }
    yield* take(() => true);
  } finally {
    end.abort();
    await Promise.all(running);
  }
}
