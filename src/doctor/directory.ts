import { toArchiveFileError } from '../storage/file-errors.ts';
import { type DirectoryFindings, inspectDirectory } from '../storage/inspect-directory.ts';
import { type CheckResult, failed, faultOf, ok, skipped, warning } from './check.ts';

const ARCHIVE = 'archive';
const DISK = 'archive disk';

/** What a disk should have free whatever the size of recordings. */
const LEAST_FREE_BYTES = 2 ** 30;

/** Two results: an archive in a directory can be written to, and the disk has room for it. */
export async function checkDirectory(
  directory: string,
  maxRecordingBytes: number,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  let found: DirectoryFindings;
  try {
    found = await inspectDirectory(directory, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    const mend = 'give this user the right to write there, or name another directory in ARCHIVE_URL';
    const fault = faultOf(toArchiveFileError(error, `file:${directory}`), mend);
    return [
      failed(ARCHIVE, fault.message, fault.mend),
      skipped(DISK, 'the directory could not be written to'),
    ];
  }
  const { location, exists, freeBytes } = found;
  const made = exists ? '' : ' (the directory is made when it is first needed)';
  return [
    ok(ARCHIVE, `${location}: a file was written, synced, read and deleted${made}`),
    freeBytes < Math.max(LEAST_FREE_BYTES, maxRecordingBytes)
      ? warning(
          DISK,
          `${gibibytes(freeBytes)} are free, and a single recording may take ${gibibytes(maxRecordingBytes)}`,
          'free some space, move the archive, or lower MAX_RECORDING_BYTES',
        )
      : ok(DISK, `${gibibytes(freeBytes)} are free`),
  ];
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toLocaleString('en', { maximumFractionDigits: 1 })} GiB`;
}
