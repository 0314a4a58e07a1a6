import { isArchiverError } from '../errors.ts';
import { readSessionKey } from '../storage/layout.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';
import { checkSession } from './check-session.ts';
import type { Checkpoint } from './checkpoint.ts';
import { addOutcome, type Finding, NO_TOTALS, type Outcome, type Totals } from './finding.ts';
import { fullKeyOf } from './full-key.ts';
import { inOrder } from './in-order.ts';
import { planUnits, type Scope } from './scope.ts';
import { settle } from './settle.ts';
import { type Task, unitsFrom, walk } from './walk.ts';

/** How far an audit has come. */
export interface AuditProgress {
  /** Sessions asked for, or directories that are listed: dates, mostly. */
  readonly units: number;
  readonly unitsDone: number;
  readonly totals: Totals;
}

/** Everything an audit depends on. */
export interface AuditDeps {
  readonly store: ArchiveStore;
  /** Sessions looked at at a time. */
  readonly concurrency: number;
  /** How old the objects of a session must be before a finding is believed (milliseconds); default 10 s. */
  readonly settleMs?: number;
  /** Where to go on from, and where to note how far it came. */
  readonly checkpoint?: Checkpoint;
  /** Called for each finding, one after the other, those of earlier runs first. */
  readonly onFinding: (finding: Finding) => Promise<void>;
  readonly onProgress?: (progress: AuditProgress) => void;
}

/** A recording is followed by its manifest within seconds, unless it is followed by a large one. */
const SETTLE_MS = 10_000;

/**
 * Reads archived objects again and compares them with their manifests. Memory is bounded whatever the size of the
 * archive, of a recording, or the number of findings; nothing is written to the archive.
 *
 * @returns what was looked at, with what earlier runs did where there is a checkpoint.
 * @throws ArchiverError when the archive can't be listed or read at all; the signal's reason when aborted.
 */
export async function verifyArchive(scope: Scope, deps: AuditDeps, signal: AbortSignal): Promise<Totals> {
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
    outcome: await lookAt(task, { store, settleMs }, either),
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

const NOTHING: Outcome = { sessions: 0, objects: 0, bytes: 0, findings: [] };

async function lookAt(
  task: Task,
  deps: { readonly store: ArchiveStore; readonly settleMs: number },
  signal: AbortSignal,
): Promise<Outcome> {
  const { store } = deps;
  switch (task.kind) {
    case 'session':
      return checkSession(task.listed, deps, signal);
    case 'foreign':
      return (await isStillThere(task.object, deps, signal)) ? only(foreign(task.object, store)) : NOTHING;
    case 'closed':
      return only(closed(task.key, task.fault, store));
    case 'end':
      return NOTHING;
  }
}

function only(finding: Finding): Outcome {
  return { ...NOTHING, findings: [finding] };
}

/** What was written a moment ago may be something that is about to be taken away again. */
async function isStillThere(
  object: ListedObject,
  { store, settleMs }: { readonly store: ArchiveStore; readonly settleMs: number },
  signal: AbortSignal,
): Promise<boolean> {
  if (!(await settle([object], settleMs, signal))) return true;
  try {
    return (await store.head(object.key, signal)) !== undefined;
  } catch (error) {
    // It was listed, so it is there, whether it can be asked for or not: many a key is none that a store takes.
    if (isArchiverError(error) && !signal.aborted) return true;
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
