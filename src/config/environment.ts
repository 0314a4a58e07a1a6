import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { ConfigError, type Environment, SECRETS, sayCode } from './settings.ts';

/**
 * The variables of a `.env` file in a directory, under those of the process, which win, even where they are
 * empty. A secret that the process gives in one form (`API_TOKEN` or `API_TOKEN_FILE`) also hides the other
 * form in the file.
 *
 * @throws ConfigError when there is a `.env` that can't be read.
 */
export function readEnvironment(directory: string, processEnv: Environment): Environment {
  const merged: Record<string, string | undefined> = { ...readDotEnv(directory), ...processEnv };
  for (const name of SECRETS) {
    const fileName = `${name}_FILE`;
    if (processEnv[name] && !(fileName in processEnv)) delete merged[fileName];
    if (processEnv[fileName] && !(name in processEnv)) delete merged[name];
  }
  return merged;
}

/**
 * Hands the settings that belong to the AWS and OpenTelemetry SDKs, which read the process's variables themselves, on
 * to them where they come from a `.env`: sets those `AWS_*` and `OTEL_*` variables that `processEnv` doesn't have.
 */
export function passSdkSettings(
  environment: Environment,
  processEnv: Record<string, string | undefined>,
): void {
  for (const [name, value] of Object.entries(environment)) {
    if (/^(AWS|OTEL)_/.test(name) && value !== undefined) processEnv[name] ??= value;
  }
}

function readDotEnv(directory: string): Environment {
  try {
    return parseEnv(readFileSync(join(directory, '.env'), 'utf8'));
  } catch (error) {
    const code = sayCode(error);
    if (code === 'ENOENT') return {};
    throw new ConfigError([
      {
        variable: '.env',
        message: `the file in the working directory can't be read (${code})`,
        hint: 'fix or remove it',
      },
    ]);
  }
}
