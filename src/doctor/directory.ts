import { constants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { systemCode, VoicemailError } from '../domain/errors.ts';
import { removeTree } from '../storage/fs/directories.ts';
import { toArchiveFileError } from '../storage/fs/files.ts';
import { createDirectoryStore } from '../storage/fs/store.ts';
import { newProbeDirectory, PROBE_BODY, PROBE_INFO } from '../storage/keys.ts';
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
    const fix = 'give this user the right to write there, or name another directory in ARCHIVE_URL';
    const fault = faultOf(toArchiveFileError(error, `file:${directory}`), fix);
    return [
      failed(ARCHIVE, fault.message, fault.fix),
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

/** What was found. */
interface DirectoryFindings {
  /** `file:` and the absolute path. */
  readonly location: string;
  /** Whether it is there; otherwise what was tried is to make it where it will be. */
  readonly exists: boolean;
  /** What may still be written. */
  readonly freeBytes: number;
}

/**
 * Writes a file as an archive does (synced, and under its name in one step), reads it, and removes it with its
 * directory. An archive that is not there yet is not made.
 *
 * @throws VoicemailError as the store words it, a file system's own error from the rest; the signal's reason when aborted.
 */
async function inspectDirectory(directory: string, signal: AbortSignal): Promise<DirectoryFindings> {
  const root = resolve(directory);
  const nearest = await nearestDirectory(root);
  const exists = nearest === root;
  // The store's own words would name the probe's place.
  if (!exists) await access(nearest, constants.W_OK | constants.X_OK);
  const probe = newProbeDirectory();
  // In a place of its own, so that several of these at once do not remove each other's directories.
  const store = createDirectoryStore(exists ? root : join(nearest, probe));
  const key = `${probe}probe`;
  try {
    await store.write(key, PROBE_BODY, PROBE_INFO, 'absent', signal);
    const read = await store.read(key, signal);
    if (!read?.equals(PROBE_BODY)) {
      throw new VoicemailError('ARCHIVE_UNAVAILABLE', 'what was read is not what was written');
    }
    const { bavail, bsize } = await statfs(nearest);
    return { location: `file:${root}`, exists, freeBytes: bavail * bsize };
  } finally {
    await removeTree(nearest, probe.slice(0, -1));
    await store.close();
  }
}

/**
 * The directory itself where it is there, else the innermost one above it that is.
 * @param path absolute.
 * @throws the file system's own error, `ENOTDIR` where something else has the name of one of them.
 */
export async function nearestDirectory(path: string): Promise<string> {
  for (let current = path; ; current = dirname(current)) {
    try {
      if ((await stat(current)).isDirectory()) return current;
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' || dirname(current) === current) throw error;
      continue;
    }
    throw Object.assign(new Error(`${current} is no directory`), { code: 'ENOTDIR' });
  }
}
