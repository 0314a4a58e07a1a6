/** Lists what to verify. */

import { isVoicemailError } from '../domain/errors.ts';
import type { SessionRef } from '../domain/session.ts';
import { compareKeys } from '../storage/keys.ts';
import { readSessionKey, sessionPrefix } from '../storage/layout.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';
import { isFolderMark } from './check-object.ts';
import { listAll, type SessionDirectory } from './check-session.ts';
import { isInScope, type Scope, type Unit } from './scope.ts';

/** The progress of a verification: all earlier units are done, and `unit` up to and including the key `after`. */
export interface Position {
  /** The prefix of a unit. */
  readonly unit: string;
  /** Relative. */
  readonly after?: string;
  /** All of the unit is done. */
  readonly ended?: boolean;
}

/** One thing to verify. */
export type Task = { readonly position: Position } & (
  | { readonly kind: 'session'; readonly listed: SessionDirectory }
  /** An object that lies where none of the archive's objects do. */
  | { readonly kind: 'foreign'; readonly object: ListedObject }
  /** A directory or file that may not be read. */
  | { readonly kind: 'closed'; readonly key: string; readonly fault: string }
  /** Nothing more comes of this unit. */
  | { readonly kind: 'end' }
);

/** What a walk uses. */
export interface WalkDeps {
  readonly scope: Scope;
  readonly store: ArchiveStore;
}

/** Everything in some units, from a position on. */
export async function* walk(
  units: readonly Unit[],
  from: Position | undefined,
  deps: WalkDeps,
  signal: AbortSignal,
): AsyncGenerator<Task> {
  for (const unit of units) {
    const after = from?.unit === unit.prefix ? from.after : undefined;
    yield* walkUnit(unit, after, deps, signal);
    yield { kind: 'end', position: { unit: unit.prefix, ended: true } };
  }
}

/** The units that are not done yet. */
export function unitsFrom(units: readonly Unit[], from: Position | undefined): readonly Unit[] {
  if (!from) return units;
  return units.filter(({ prefix }) => {
    const order = compareKeys(prefix, from.unit);
    return order > 0 || (order === 0 && !from.ended);
  });
}

async function* walkUnit(
  unit: Unit,
  after: string | undefined,
  { scope, store }: WalkDeps,
  signal: AbortSignal,
): AsyncGenerator<Task> {
  const { prefix } = unit;
  switch (unit.kind) {
    case 'session':
      yield askedFor(unit, await listAll(prefix, store, signal));
      break;
    case 'closed':
      yield { kind: 'closed', key: prefix, fault: unit.fault ?? '', position: { unit: prefix, ended: true } };
      break;
    case 'level':
      for await (const object of objectsRightIn(prefix, store, signal)) {
        if (after === undefined || compareKeys(object.key, after) > 0) {
          yield { kind: 'foreign', object, position: { unit: prefix, after: object.key } };
        }
      }
      break;
    case 'partition':
      yield* walkBelow(unit, after, { scope, store }, signal);
      break;
    case 'foreign':
      yield* walkForeign(unit, after, { scope, store }, signal);
  }
}

async function* walkForeign(
  unit: Unit,
  after: string | undefined,
  deps: WalkDeps,
  signal: AbortSignal,
): AsyncGenerator<Task> {
  const { prefix } = unit;
  try {
    yield* walkBelow(unit, after, deps, signal);
  } catch (error) {
    // No store lists what can't be a directory of an archive.
    if (!isVoicemailError(error, 'INTERNAL')) throw error;
    const fault = 'it lies where the archive keeps nothing, and has a name that is not looked into';
    yield { kind: 'closed', key: prefix, fault, position: { unit: prefix, ended: true } };
  }
}

/** All below a directory, the objects of a session together. */
async function* walkBelow(
  unit: Unit,
  after: string | undefined,
  { scope, store }: WalkDeps,
  signal: AbortSignal,
): AsyncGenerator<Task> {
  let last = after ?? '';
  const upTo = (key: string): Position => {
    // Unreadable objects may be reported a little late. The position must not move back for them.
    if (compareKeys(key, last) > 0) last = key;
    return { unit: unit.prefix, after: last };
  };
  const closed: { readonly key: string; readonly fault: string }[] = [];
  const onUnreadable = (key: string, error: unknown) => {
    const place = readSessionKey(key);
    if (place && !belongs(place, scope)) return;
    closed.push({ key, fault: error instanceof Error ? error.message : String(error) });
  };
  let group: { directory: string; session: SessionRef; objects: ListedObject[] } | undefined;
  const finish = function* (): Generator<Task> {
    if (group && belongs(group, scope)) {
      const position = upTo(group.objects.at(-1)?.key ?? group.directory);
      yield { kind: 'session', listed: { ...group, isAskedFor: false }, position };
    }
    group = undefined;
    for (const { key, fault } of closed.splice(0)) yield { kind: 'closed', key, fault, position: upTo(key) };
  };
  const options = { ...(after !== undefined && { after }), onUnreadable, withOthers: true };
  for await (const object of store.list(unit.prefix, signal, options)) {
    const place = unit.kind === 'partition' ? readSessionKey(object.key) : undefined;
    if (group?.directory !== place?.directory) yield* finish();
    if (isFolderMark(object)) continue;
    if (place) {
      group ??= { directory: place.directory, session: place.session, objects: [] };
      group.objects.push(object);
    } else {
      yield { kind: 'foreign', object, position: upTo(object.key) };
    }
  }
  yield* finish();
}

/** A session in the directory of another date is always reported. */
function belongs(
  { directory, session }: Pick<SessionDirectory, 'directory' | 'session'>,
  scope: Scope,
): boolean {
  return directory !== sessionPrefix(session) || isInScope(session, scope);
}

function askedFor({ prefix }: Unit, objects: readonly ListedObject[]): Task {
  const place = readSessionKey(prefix);
  if (!place) throw new Error(`${prefix} is not the directory of a session`);
  const { directory, session } = place;
  return {
    kind: 'session',
    listed: { directory, session, objects, isAskedFor: true },
    position: { unit: prefix, ended: true },
  };
}

async function* objectsRightIn(
  prefix: string,
  store: ArchiveStore,
  signal: AbortSignal,
): AsyncGenerator<ListedObject> {
  for await (const entry of store.listDirectory(prefix, signal)) {
    if ('key' in entry && !isFolderMark(entry)) yield entry;
  }
}
