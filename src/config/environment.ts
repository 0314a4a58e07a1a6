import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv, TextDecoder } from 'node:util';
import { ConfigError, type Environment, SECRETS, sayCode } from './settings.ts';
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
 * hands on the quotes that a shell or a `.env` takes away, and no value of ours is meant to have any.
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
    const code = sayCode(error);
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
