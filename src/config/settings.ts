import { readFileSync } from 'node:fs';
import { VARIABLES, type VariableName, variableOf } from './variables.ts';

/** Variables by name, as in `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The variables that may also be given as a file that holds the value: `KORE_CLIENT_SECRET_FILE`. */
export const SECRETS: ReadonlySet<string> = new Set(
  VARIABLES.filter(({ isSecret }) => isSecret).map(({ name }) => name),
);

/** Far more than any secret has; whatever is larger is another file. */
const MAX_SECRET_CHARACTERS = 64 * 1024;

/**
 * Reads typed values out of an environment and collects their faults. {@link Settings.throwFaults} reports all at once.
 * Empty variables count as unset.
 */
export class Settings {
  readonly #environment: Environment;
  readonly #faults: Fault[] = [];

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /**
   * The value of a variable; what its default means where it is unset or wrong.
   * @param standard in place of the default in the table of variables.
   */
  withDefault<Value>(variable: VariableName, parse: (text: string) => Value, standard?: string): Value {
    const written = standard ?? variableOf(variable).standard;
    if (written === undefined) throw new TypeError(`${variable} has no default`);
    return this.optional(variable, parse) ?? parse(written);
  }

  /** The value of a variable, or `undefined`, which is a fault if it is needed. */
  required<Value>(
    variable: VariableName,
    parse: (text: string) => Value,
    isNeeded: boolean,
  ): Value | undefined {
    const value = this.optional(variable, parse);
    if (value === undefined && isNeeded && !this.isFaulty(variable)) {
      const { isSecret, example } = variableOf(variable);
      const alternative = isSecret ? ` (or ${variable}_FILE)` : '';
      this.addFault(variable, `is required${alternative}`, { example });
    }
    return value;
  }

  /** The value of a variable, or `undefined` where it is unset or wrong. */
  optional<Value>(variable: VariableName, parse: (text: string) => Value): Value | undefined {
    return this.#read(variable, variable, parse);
  }

  /** The same by the variable's name in lower case, as some tools write it. */
  optionalInLowerCase<Value>(variable: VariableName, parse: (text: string) => Value): Value | undefined {
    return this.#read(variable.toLowerCase(), variable, parse);
  }

  #read<Value>(name: string, variable: VariableName, parse: (text: string) => Value): Value | undefined {
    const { isSecret, example } = variableOf(variable);
    const source = isSecret ? this.#secret(name) : this.#plain(name);
    if (source === undefined) return undefined;
    try {
      return parse(source.text);
    } catch (error) {
      if (!(error instanceof InvalidValue)) throw error;
      this.addFault(source.variable, error.message, { example });
      return undefined;
    }
  }

  /** Whether a variable, or its file, is set to anything. */
  isSet(variable: VariableName): boolean {
    return [variable, `${variable}_FILE`].some((name) => (this.#environment[name] ?? '').trim() !== '');
  }

  /** @param advice what would be right, apart from what is wrong. */
  addFault(variable: string, message: string, advice: Pick<Fault, 'hint' | 'example'> = {}): void {
    this.#faults.push({ variable, message, ...advice });
  }

  /** Whether a fault of this variable, or of its file, is known already. */
  isFaulty(variable: string): boolean {
    return this.#faults.some((fault) => fault.variable === variable || fault.variable === `${variable}_FILE`);
  }

  /** @throws ConfigError with all faults, if there are any. */
  throwFaults(): void {
    if (this.#faults.length > 0) throw new ConfigError(this.#faults);
  }

  #plain(variable: string): { variable: string; text: string } | undefined {
    const text = this.#environment[variable]?.trim() ?? '';
    return text === '' ? undefined : { variable, text };
  }

  /** Secrets are not trimmed: a space may belong to them. */
  #secret(variable: string): { variable: string; text: string } | undefined {
    const fileVariable = `${variable}_FILE`;
    const direct = this.#environment[variable] ?? '';
    const path = this.#environment[fileVariable] ?? '';
    if (direct !== '' && path !== '') {
      this.addFault(variable, `is set, and so is ${fileVariable}`, { hint: 'unset one of them' });
      return undefined;
    }
    if (path === '') return direct === '' ? undefined : { variable, text: direct };
    const text = this.#readSecret(fileVariable, path);
    return text === undefined ? undefined : { variable: fileVariable, text };
  }

  /** The path is never shown: people paste secrets there by mistake. */
  #readSecret(fileVariable: string, path: string): string | undefined {
    let text: string;
    try {
      text = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
    } catch (error) {
      this.addFault(fileVariable, `the file can't be read (${errorCodeOf(error)})`, {
        hint: 'give the path of a readable file',
      });
      return undefined;
    }
    if (text !== '' && text.length <= MAX_SECRET_CHARACTERS) return text;
    this.addFault(fileVariable, text === '' ? 'the file is empty' : 'the file is too large to be a secret');
    return undefined;
  }
}

/** Node's code of an error, such as `ENOENT`. */
export function errorCodeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
/** One thing that is wrong with the configuration. */
export interface Fault {
  /** The variable as it is to be fixed; its `_FILE` form where that is what was set. */
  readonly variable: string;
  /** What is wrong. Holds no secret. */
  readonly message: string;
  /** What to do, as an imperative. */
  readonly hint?: string;
  /** A value that would be right. */
  readonly example?: string;
}

/** A fault on one line, for people: what is wrong, what to do and an example, as far as they are known. */
export function faultText({ variable, message, hint, example }: Fault): string {
  const parts = [message, hint, example === undefined ? undefined : `for example ${example}`];
  return `${variable}: ${parts.filter((part) => part !== undefined).join('; ')}`;
}

/** Everything that is wrong with the configuration, at once; the message has one line for each fault. */
export class ConfigError extends Error {
  readonly faults: readonly Fault[];

  constructor(faults: readonly Fault[]) {
    super(faults.map(faultText).join('\n'));
    this.name = 'ConfigError';
    this.faults = faults;
  }
}

/**
 * What the parsers of single values throw; the loader adds the variable's name and an example. The message
 * goes on after the name (`POLL_DELAY: <message>`) and quotes the value only through {@link quote}.
 */
export class InvalidValue extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'InvalidValue';
  }
}

const MAX_QUOTED_CHARACTERS = 60;

/** A value made fit for a message: short, printable, and left out where it may hold a password. */
export function quote(value: string): string {
  if (value.includes('@')) return 'the value (not shown, as it may hold a password)';
  const printable = value.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, '?');
  return printable.length <= MAX_QUOTED_CHARACTERS
    ? `"${printable}"`
    : `"${printable.slice(0, MAX_QUOTED_CHARACTERS - 1)}…"`;
}
