import { z } from 'zod';
import type { ArchiveTarget, QueueConfig } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { ConfigError, type Fault } from '../config/settings.ts';
import type { ArchiverLogger, ArchiverOptions } from './archiver.ts';

/** Options as they are worked with. */
export interface ArchiverSettings {
  readonly queue: QueueConfig;
  readonly archive: ArchiveTarget | undefined;
  readonly botId: string | undefined;
  readonly timeoutMs: number;
  readonly logger: ArchiverLogger | undefined;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_TIMEOUT_MS = 24 * 60 * 60 * 1_000;

/** The options that are variables of the program, which knows how to read them. */
const VARIABLE_BY_OPTION = {
  queueUrl: 'QUEUE_URL',
  queueName: 'QUEUE_NAME',
  queuePrefix: 'QUEUE_PREFIX',
  botId: 'KORE_BOT_ID',
  archiveUrl: 'ARCHIVE_URL',
  s3ForcePathStyle: 'S3_FORCE_PATH_STYLE',
  s3ExpectedBucketOwner: 'S3_EXPECTED_BUCKET_OWNER',
} as const satisfies Partial<Record<keyof ArchiverOptions, string>>;

/** What faults of no single option are of. */
const WHOLE = 'options';

const MISSING = 'is required; for example redis://localhost:6379';
const text = z.string('must be a string').optional();

/** For those who call this from plain JavaScript, or with what an environment may lack. */
const Options = z.strictObject(
  {
    queueUrl: z.string(MISSING).refine((url) => url.trim() !== '', MISSING),
    queueName: text,
    queuePrefix: text,
    botId: text,
    archiveUrl: text,
    s3ForcePathStyle: z.boolean('must be true or false').optional(),
    s3ExpectedBucketOwner: text,
    timeoutMs: z
      .int('must be a whole number of milliseconds')
      .min(1, 'must be at least 1')
      .max(MAX_TIMEOUT_MS, `must be at most ${MAX_TIMEOUT_MS}`)
      .optional(),
    logger: z
      .custom<ArchiverLogger>(isLogger, 'must have the methods debug, info, warn and error')
      .optional(),
  },
  { error: ({ code }) => (code === 'unrecognized_keys' ? 'is no option' : 'must be an object') },
);

/** @throws ConfigError that names all faults at once, by the names of the options. */
export function readOptions(options: ArchiverOptions): ArchiverSettings {
  const parsed = Options.safeParse(options);
  if (!parsed.success) {
    const faults = parsed.error.issues.flatMap(faultsOf);
    throw new ConfigError([...faults, ...remainingFaults(options, faults)]);
  }
  const { timeoutMs = DEFAULT_TIMEOUT_MS, logger, ...values } = parsed.data;
  const config = load(values);
  return {
    queue: config.queue,
    archive: values.archiveUrl?.trim() ? config.archive : undefined,
    botId: config.defaultBotId,
    timeoutMs,
    logger,
  };
}

/** A text of the program's, which names variables, for those who know options. */
export function inOptionNames(message: string): string {
  return Object.entries(VARIABLE_BY_OPTION).reduce(
    (text, [option, variable]) => text.replaceAll(variable, option),
    message,
  );
}

type Values = Readonly<Partial<Record<keyof typeof VARIABLE_BY_OPTION, string | boolean | undefined>>>;

/** What is wrong with the options whose types are right, where others are faulty already. */
function remainingFaults(options: object, known: readonly Fault[]): readonly Fault[] {
  const faulty = new Set(known.map(({ variable }) => variable));
  if (faulty.has(WHOLE)) return [];
  try {
    load(Object.fromEntries(Object.entries(options).filter(([option]) => !faulty.has(option))));
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
}

function load(values: Values) {
  const environment = Object.fromEntries(
    Object.entries(VARIABLE_BY_OPTION).map(([option, variable]) => [
      variable,
      values[option as keyof Values]?.toString(),
    ]),
  );
  try {
    return loadConfig(environment, { needs: [] });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(
      error.faults.map(({ variable, message, hint, example }) => ({
        variable: inOptionNames(variable),
        message: inOptionNames(message),
        ...(hint !== undefined && { hint: inOptionNames(hint) }),
        ...(example !== undefined && { example }),
      })),
    );
  }
}

function faultsOf(issue: z.core.$ZodIssue): Fault[] {
  const names = issue.code === 'unrecognized_keys' ? issue.keys : [issue.path.join('.') || WHOLE];
  return names.map((variable) => ({ variable, message: issue.message }));
}

function isLogger(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const methods = value as Readonly<Record<string, unknown>>;
  return ['debug', 'info', 'warn', 'error'].every((level) => typeof methods[level] === 'function');
}
