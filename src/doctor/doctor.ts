/** Checks everything that archiving depends on, and says what to fix. */

import type { QueueConfig } from '../config/config.ts';
import type { Environment } from '../config/settings.ts';
import type { S3Connection } from '../storage/s3/client.ts';
import { type CheckResult, failed, faultOf, ok, skipped } from './check.ts';
import { ClockComparison } from './clock.ts';
import { checkConfiguration, type SoundParts } from './configuration.ts';
import type { Holder } from './embedded.ts';
import { checkKore } from './kore.ts';

/** For each of the checks; every one of them has shorter limits of its own for each step. */
const CHECK_TIMEOUT_MS = 30_000;

/** What the checks need. */
export interface DoctorOptions {
  readonly environment: Environment;
  /** As in `process.versions.node`. */
  readonly nodeVersion: string;
  /** Reads what the process that holds an embedded queue has written about itself. */
  readonly findHolder: (directory: string) => Promise<Holder | undefined>;
  /** Endpoint, region and so on of S3, where they shall not come by the SDK's standard chain. */
  readonly connection?: S3Connection;
  /** This machine's clock, in milliseconds since 1970. */
  readonly now?: () => number;
  readonly timeoutMs?: number;
}

/**
 * Runs all checks side by side, and yields their results in an order that is always the same.
 *
 * @throws the signal's reason when aborted, once all checks have ended and removed what they made.
 *
 * @example
 * for await (const { name, status, message } of runDoctor(options, signal)) console.log(status, name, message);
 */
export async function* runDoctor(options: DoctorOptions, signal: AbortSignal): AsyncGenerator<CheckResult> {
  const { results, parts } = checkConfiguration(options.environment);
  yield* results;
  yield checkNode(options.nodeVersion);
  const checks = startChecks(parts, options, signal);
  try {
    for (const check of checks) yield* await check;
  } finally {
    await Promise.allSettled(checks);
  }
}

function startChecks(
  { queue, archive, kore }: SoundParts,
  { findHolder, connection = {}, now = Date.now, timeoutMs = CHECK_TIMEOUT_MS }: DoctorOptions,
  signal: AbortSignal,
): Promise<readonly CheckResult[]>[] {
  const clock = new ClockComparison(now);
  const run = (
    name: string,
    check: ((signal: AbortSignal) => Promise<readonly CheckResult[]>) | undefined,
  ) => (check ? bounded(name, check, timeoutMs, signal) : Promise.resolve([skipped(name, UNSOUND)]));
  const servers = [
    run('queue', queue && ((ending) => checkQueue(queue, findHolder, ending))),
    run('archive', archive && ((ending) => checkArchive(archive, clock, connection, ending))),
    run('kore', kore && ((ending) => checkKore(kore, clock, now, ending))),
  ];
  // The clocks have been seen by then.
  const clocks = Promise.allSettled(servers).then(() => [clock.result()]);
  return [...servers, clocks];
}

const UNSOUND = 'not checked, as its configuration is not right';

/** An unexpected error of a check is a result as well, so that the other checks are still reported. */
async function bounded(
  name: string,
  check: (signal: AbortSignal) => Promise<readonly CheckResult[]>,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    signal.throwIfAborted();
    return await check(AbortSignal.any([signal, timeout]));
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (timeout.aborted) {
      const message = `no result after ${timeoutMs / 1000} s`;
      return [failed(name, message, 'check the network between here and the server (firewall, proxy)')];
    }
    const { message, fix } = faultOf(error, 'check the configuration');
    return [failed(name, message, fix)];
  }
}

/** Whether the archive can be used. What a kind of archive needs is loaded for that kind alone. */
async function checkArchive(
  { target, maxRecordingBytes }: NonNullable<SoundParts['archive']>,
  clock: ClockComparison,
  connection: S3Connection,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  if (target.kind === 'file') {
    const { checkDirectory } = await import('./directory.ts');
    return checkDirectory(target.directory, maxRecordingBytes, signal);
  }
  const { checkBucket } = await import('./bucket.ts');
  return checkBucket(target, clock, connection, signal);
}

/**
 * Whether the queue can be used, and keeps what it is given. What a kind of queue needs is loaded for that kind alone.
 */
async function checkQueue(
  { target, ...rest }: QueueConfig,
  findHolder: (directory: string) => Promise<Holder | undefined>,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  switch (target.kind) {
    case 'embedded': {
      const { checkEmbedded } = await import('./embedded.ts');
      return checkEmbedded(target, findHolder);
    }
    case 'postgres': {
      const { checkPostgres } = await import('./postgres.ts');
      return checkPostgres(target.url, signal);
    }
    case 'redis':
    case 'sentinel': {
      const { checkRedis } = await import('./redis.ts');
      return checkRedis({ target, ...rest }, signal);
    }
  }
}

/** As `engines` in package.json says. */
const OLDEST = { major: 22, minor: 19 };

/** Whether this Node.js can run the program. @param version as in `process.versions.node`. */
export function checkNode(version: string): CheckResult {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const isNewEnough = major > OLDEST.major || (major === OLDEST.major && minor >= OLDEST.minor);
  const oldest = `${OLDEST.major}.${OLDEST.minor}`;
  return isNewEnough
    ? ok('node', `Node.js ${version}`)
    : failed('node', `Node.js ${version} is older than ${oldest}`, `install Node.js ${oldest} or newer`);
}
