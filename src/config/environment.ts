import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv, TextDecoder } from 'node:util';
import { ConfigError, type Environment, errorCodeOf, type Fault, SECRETS } from './settings.ts';
import { VARIABLES } from './variables.ts';

/** All names, for a regular expression. */
const NAMES = `(?:${VARIABLES.map(({ name }) => name).join('|')})`;

/**
 * The variables of a `.env` file in a directory, under those of the process, which win, even where they are
 * empty. A secret that the process gives in one form (`API_TOKEN` or `API_TOKEN_FILE`) also hides the other
 * form in the file.
 *
 * @throws ConfigError when there is a `.env` that can't be read.
 */
export function readEnvironment(directory: string, processEnv: Environment): Environment {
  const merged: Record<string, string | undefined> = { ...readDotEnv(directory), ...unquoted(processEnv) };
  for (const name of SECRETS) {
    const fileName = `${name}_FILE`;
    if (processEnv[name] && !(fileName in processEnv)) delete merged[fileName];
    if (processEnv[fileName] && !(name in processEnv)) delete merged[name];
  }
  return merged;
}

/**
 * Values in quotes, without them, as far as this program and the SDKs it brings read them: `docker run --env-file`
 * passes on the quotes that a shell or a `.env` removes, and no value of this program needs any.
 */
function unquoted(environment: Environment): Environment {
  return Object.fromEntries(
    Object.entries(environment).map(([name, value]) => {
      const [, , inner] = (READ_HERE.test(name) && /^(["'])(.*)\1$/s.exec(value?.trim() ?? '')) || [];
      return [name, inner ?? value];
    }),
  );
}

const READ_HERE = new RegExp(`^(AWS_.*|OTEL_.*|${NAMES}(_FILE)?|https?_proxy|no_proxy)$`);

/**
 * Hands the settings that belong to the AWS and OpenTelemetry SDKs, which read the process's variables themselves, on
 * to them where they come from a `.env` or came in quotes.
 */
export function passSdkSettings(
  environment: Environment,
  processEnv: Record<string, string | undefined>,
): void {
  for (const [name, value] of Object.entries(environment)) {
    if (/^(AWS|OTEL)_/.test(name) && value !== undefined) processEnv[name] = value;
  }
}

/** With a byte order mark, CRLF and `export` as they may come; of a name that is there twice the last counts. */
function readDotEnv(directory: string): Environment {
  const text = readText(join(directory, '.env'));
  if (text === undefined) return {};
  const lines = text.split(/\r?\n/);
  // Node's parser passes over them, and the variable would silently have its default.
  const faults = lines.flatMap((line, index) => {
    const [, name] = NOT_ASSIGNED.exec(line) ?? [];
    return name === undefined
      ? []
      : [{ variable: '.env', message: `line ${index + 1} sets nothing`, hint: `put a "=" behind ${name}` }];
  });
  if (faults.length > 0) throw new ConfigError(faults);
  return parseEnv(text);
}

const NOT_ASSIGNED = new RegExp(`^\\s*(?:export\\s+)?(${NAMES}(?:_FILE)?)\\s*[^=\\s\\w]`);

function readText(path: string): string | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const code = errorCodeOf(error);
    if (code === 'ENOENT') return undefined;
    throw unreadable(`can't be read (${code})`, 'fix or remove it');
  }
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    if (!text.includes('\0')) return text;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  throw unreadable('is not UTF-8 text', 'save it as UTF-8');
}

function unreadable(what: string, hint: string): ConfigError {
  return new ConfigError([{ variable: '.env', message: `the file in the working directory ${what}`, hint }]);
}

/** Unknown names: faults keep the program from starting, warnings are logged. */
export interface UnknownVariables {
  readonly faults: readonly Fault[];
  readonly warnings: readonly Fault[];
}

const VARIABLE_NAMES = VARIABLES.map(({ name }) => name);
const KNOWN: ReadonlySet<string> = new Set([
  ...VARIABLE_NAMES,
  ...VARIABLES.filter(({ isSecret }) => isSecret).map(({ name }) => `${name}_FILE`),
]);

/** Names that begin so are meant for this program. */
const OWN_VARIABLES =
  /^(KORE|QUEUE|ARCHIVE|S3|WORKER|TRANSFER|DOWNLOAD|RECORDING|TRANSCRIPT|SETTLE|API|WEBHOOK|NOTIFY|MANIFEST|SHUTDOWN|UNAUTHORIZED)_/;

/**
 * Names that others set: the SDKs' own, proxies of all kinds, and Kubernetes' variables of a service (a service named
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
      if (OWN_VARIABLES.test(variable)) warnings.push({ variable, message: 'is not known and does nothing' });
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
  for (const name of VARIABLE_NAMES) {
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
