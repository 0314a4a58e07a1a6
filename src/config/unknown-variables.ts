/** Variables that look like ours and are none: most likely misspelt. */

import type { Environment, Fault } from './settings.ts';
import { VARIABLES } from './variables.ts';

/** What is wrong with names: faults keep the program from starting, warnings are told. */
export interface UnknownVariables {
  readonly faults: readonly Fault[];
  readonly warnings: readonly Fault[];
}

const NAMES = VARIABLES.map(({ name }) => name);
const KNOWN: ReadonlySet<string> = new Set([
  ...NAMES,
  ...VARIABLES.filter(({ isSecret }) => isSecret).map(({ name }) => `${name}_FILE`),
]);

/** Names that begin so are meant for this program. */
const OURS =
  /^(KORE|QUEUE|ARCHIVE|S3|WORKER|TRANSFER|DOWNLOAD|RECORDING|TRANSCRIPT|SETTLE|API|WEBHOOK|NOTIFY|MANIFEST|SHUTDOWN|UNAUTHORIZED)_/;

/**
 * Names that others set: the SDKs' own, proxies of all kinds, and what Kubernetes tells of a service (a service named
 * `queue` is `QUEUE_SERVICE_HOST`, `QUEUE_PORT`, ...).
 */
const OTHERS = /^(AWS|OTEL)_|_PROXY$|_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP)(_|$)|$)/i;

/** Two slips of the pen, or one in a short name. */
const MAX_DISTANCE = 2;
const MAX_DISTANCE_OF_SHORT = 1;
const SHORT_CHARACTERS = 7;

/**
 * Looks for misspelt variables. It is a fault where the variable that must be meant is not set, as the program would
 * go by its default then; otherwise, and where none is close, a warning.
 */
export function findUnknownVariables(environment: Environment): UnknownVariables {
  const faults: Fault[] = [];
  const warnings: Fault[] = [];
  for (const [variable, value = ''] of Object.entries(environment)) {
    if (value.trim() === '' || KNOWN.has(variable) || OTHERS.test(variable)) continue;
    const meant = closestName(variable.toUpperCase());
    if (meant === undefined) {
      if (OURS.test(variable)) warnings.push({ variable, message: 'is not known and does nothing' });
      continue;
    }
    const isMeantSet = [meant, `${meant}_FILE`].some((name) => (environment[name] ?? '').trim() !== '');
    const message = `is not known: did you mean ${meant}?`;
    (isMeantSet ? warnings : faults).push({ variable, message });
  }
  return { faults, warnings };
}

function closestName(written: string): string | undefined {
  let closest: string | undefined;
  let least = written.length <= SHORT_CHARACTERS ? MAX_DISTANCE_OF_SHORT : MAX_DISTANCE;
  for (const name of NAMES) {
    if (Math.abs(name.length - written.length) > least) continue;
    const distance = editDistance(written, name);
    if (distance < least || (distance === least && closest === undefined)) {
      closest = name;
      least = distance;
    }
  }
  return closest;
}

/** Characters to be added, left out, replaced, or swapped with their neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const isSame = a[row - 1] === b[column - 1];
      const isSwapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      current[column] = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (isSame ? 0 : 1),
        isSwapped ? (beforeLast[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}
