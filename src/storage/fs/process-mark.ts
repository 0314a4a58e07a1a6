/** Which process a file belongs to, told in its name, and whether that process is still there. */

import { createHash } from 'node:crypto';
import { readFile, readlink } from 'node:fs/promises';
import { systemCode } from '../../domain/errors.ts';

/** A mark that no other process has, on any machine and at any time: `place.pid.start`. */
const MARK = /^([0-9a-f]{16})\.(\d+)\.(\d+)$/;

let mark: Promise<string | undefined> | undefined;
let place: Promise<string | undefined> | undefined;

/**
 * The mark of this process, free of `-` and `/`; `undefined` where the system does not tell enough (without Linux'
 * `/proc`).
 */
export function ownMark(): Promise<string | undefined> {
  mark ??= makeMark();
  return mark;
}

async function makeMark(): Promise<string | undefined> {
  const here = await ownPlace();
  const start = here === undefined ? undefined : await startOf(process.pid);
  return start === undefined ? undefined : `${here}.${process.pid}.${start}`;
}

/**
 * Whether the process of a mark has ended, as far as this one can know: `false` for one on another machine, in another
 * container, or from before the machine was started.
 */
export async function hasEnded(other: string): Promise<boolean> {
  const [, where, pid, start] = MARK.exec(other) ?? [];
  if (where === undefined || where !== (await ownPlace())) return false;
  return (await startOf(Number(pid))) !== start;
}

/** This boot of this machine, and the set of process ids that this process sees (a container has its own). */
function ownPlace(): Promise<string | undefined> {
  place ??= readPlace();
  return place;
}

async function readPlace(): Promise<string | undefined> {
  try {
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
    const processes = await readlink('/proc/self/ns/pid');
    return createHash('sha256').update(`${boot}${processes}`).digest('hex').slice(0, 16);
  } catch (error) {
    if (isNotTold(error)) return undefined;
    throw error;
  }
}

/** When a process started (clock ticks since boot), which tells it from a later one of the same id. */
async function startOf(pid: number): Promise<string | undefined> {
  try {
    const line = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The second field is the program's name in brackets and may hold anything; this is the 22nd.
    return line.slice(line.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (isNotTold(error)) return undefined;
    throw error;
  }
}

/** No such file or process; or a system that keeps such things to itself. */
function isNotTold(error: unknown): boolean {
  return ['ENOENT', 'ESRCH', 'EACCES', 'EPERM', 'ENOTDIR'].includes(systemCode(error) ?? '');
}
