/** The configuration: all that is wrong with it, and the parts of it that the other checks can go by. */

import type { ArchiveTarget, Config, KoreConfig, QueueConfig } from '../config/config.ts';
import { findUnknownVariables } from '../config/environment.ts';
import { loadConfig, type Need } from '../config/load.ts';
import { isLoopback } from '../config/parsers.ts';
import { ConfigError, type Environment, type Fault } from '../config/settings.ts';
import { type CheckResult, failed, ok, warning } from './check.ts';

const NAME = 'configuration';

/** The parts of the configuration with which nothing is wrong. */
export interface SoundParts {
  readonly kore: KoreConfig | undefined;
  readonly queue: QueueConfig | undefined;
  readonly archive: { readonly target: ArchiveTarget; readonly maxRecordingBytes: number } | undefined;
}

/** The variables that each part is made of. */
const KORE = /^(KORE_(?!MEDIA_|ALLOW_PRIVATE_)|(HTTPS?|NO)_PROXY$)/i;
const QUEUE = /^QUEUE_/;
const ARCHIVE = /^(ARCHIVE_URL$|S3_|MAX_RECORDING_BYTES$|TRANSFER_MEMORY$|(HTTPS?|NO)_PROXY$)/i;

/**
 * Reads the configuration as `start` would, and then each part by itself, so that a fault in one of them keeps
 * the other checks from running.
 */
export function checkConfiguration(environment: Environment): {
  readonly results: readonly CheckResult[];
  readonly parts: SoundParts;
} {
  const kore = load(only(environment, KORE), ['kore']).config?.kore;
  const archive = load(only(environment, ARCHIVE)).config;
  const parts: SoundParts = {
    kore,
    queue: load(only(environment, QUEUE)).config?.queue,
    archive: archive && { target: archive.archive, maxRecordingBytes: archive.work.maxRecordingBytes },
  };
  const unknown = findUnknownVariables(environment).warnings.map(({ variable, message }) =>
    warning(NAME, `${variable} ${message}`, `correct or remove ${variable}`),
  );
  const results = [...configFaults(environment), ...insecureResults(kore), ...unknown];
  const bot = kore ? ` for bot ${kore.botId}` : '';
  return { results: results.length > 0 ? results : [ok(NAME, `complete${bot}`)], parts };
}

function only(environment: Environment, variables: RegExp): Environment {
  return Object.fromEntries(Object.entries(environment).filter(([variable]) => variables.test(variable)));
}

function load(
  environment: Environment,
  needs: readonly Need[] = [],
): { readonly config?: Config; readonly faults: readonly Fault[] } {
  try {
    return { config: loadConfig(environment, { needs }), faults: [] };
  } catch (error) {
    if (error instanceof ConfigError) return { faults: error.faults };
    throw error;
  }
}

/** What only the API minds does not keep a worker from running. */
function configFaults(environment: Environment): CheckResult[] {
  const { faults } = load(environment, ['kore']);
  const variables = new Set(faults.map(({ variable }) => variable));
  const ofApi = load(environment, ['kore', 'api']).faults.filter(({ variable }) => !variables.has(variable));
  return [
    ...faults.map((fault) => failed(NAME, ...inWords(fault))),
    ...ofApi.map((fault) => {
      const [message, fix] = inWords(fault);
      return warning(NAME, `${message} (the commands start and api refuse that)`, fix);
    }),
  ];
}

function inWords({ variable, message, hint, example }: Fault): [message: string, fix: string] {
  const fix = hint ?? (example === undefined ? `correct ${variable}` : `set ${variable}`);
  return [`${variable}: ${message}`, example === undefined ? fix : `${fix}, for example ${example}`];
}

function insecureResults(kore: KoreConfig | undefined): CheckResult[] {
  if (!kore || new URL(kore.baseUrl).protocol === 'https:') return [];
  if (isLoopback(new URL(kore.baseUrl).hostname.replace(/^\[(.*)\]$/, '$1'))) return [];
  return [
    warning(NAME, 'KORE_HOST: tokens and voicemails would travel in clear', 'write https:// in KORE_HOST'),
  ];
}
