import type { S3Connection } from '../storage/s3-client.ts';
import type { CheckResult } from './check.ts';
import type { ClockComparison } from './clock.ts';
import type { SoundParts } from './configuration.ts';

/** Whether the archive can be used. What a kind of archive needs is loaded for that kind alone. */
export async function checkArchive(
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
