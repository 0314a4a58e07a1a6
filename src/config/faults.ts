/** One thing that is wrong with the configuration. */
export interface Fault {
  /** The variable as it is to be mended; its `_FILE` form where that is what was set. */
  readonly variable: string;
  /** What is wrong and what would be right. Holds no secret. */
  readonly message: string;
}

/** Everything that is wrong with the configuration, at once; the message has one line for each fault. */
export class ConfigError extends Error {
  readonly faults: readonly Fault[];

  constructor(faults: readonly Fault[]) {
    super(faults.map(({ variable, message }) => `${variable}: ${message}`).join('\n'));
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
