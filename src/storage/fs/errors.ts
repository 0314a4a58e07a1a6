import { type ErrorCode, systemCode, VoicemailError } from '../../domain/errors.ts';

interface Meaning {
  readonly code: ErrorCode;
  readonly words: string;
}

const DENIED = 'this program may not read or write there: give its user the rights to the archive directory';
const NO_DIRECTORY = 'a file is where a directory belongs: move it away';
const FULL = 'the disk is full: free some space or move the archive';
const TOO_MANY_FILES = 'too many files are open: raise the limit (ulimit -n)';

const MEANINGS: Readonly<Record<string, Meaning>> = {
  EACCES: { code: 'ARCHIVE_DENIED', words: DENIED },
  EPERM: { code: 'ARCHIVE_DENIED', words: DENIED },
  EROFS: {
    code: 'ARCHIVE_DENIED',
    words: 'the file system is read-only: mount it writable or move the archive',
  },
  ENOTDIR: { code: 'ARCHIVE_DENIED', words: NO_DIRECTORY },
  EEXIST: { code: 'ARCHIVE_DENIED', words: NO_DIRECTORY }, // what mkdir says of it
  EISDIR: { code: 'ARCHIVE_DENIED', words: 'a directory is where a file belongs: move it away' },
  ELOOP: { code: 'ARCHIVE_DENIED', words: 'a symbolic link is where a file belongs: move it away' },
  ENXIO: { code: 'ARCHIVE_DENIED', words: 'a pipe, socket or device is where a file belongs: move it away' },
  ENAMETOOLONG: {
    code: 'ARCHIVE_DENIED',
    words: 'the path is too long for this file system: use a shorter one',
  },
  ENOSPC: { code: 'ARCHIVE_UNAVAILABLE', words: FULL },
  EDQUOT: { code: 'ARCHIVE_UNAVAILABLE', words: FULL },
  EMFILE: { code: 'ARCHIVE_UNAVAILABLE', words: TOO_MANY_FILES },
  ENFILE: { code: 'ARCHIVE_UNAVAILABLE', words: TOO_MANY_FILES },
};

/**
 * Turns a file system's error into one of ours, in words. What is one of ours already, or no file system's
 * error, is returned as it is.
 */
export function toArchiveFileError(error: unknown, location: string): unknown {
  const system = systemCode(error);
  if (error instanceof VoicemailError || system === undefined) return error;
  const { code, words } = MEANINGS[system] ?? {
    code: 'ARCHIVE_UNAVAILABLE',
    words: "the disk reports a fault: look at the system's log",
  };
  return new VoicemailError(code, `${location}: ${words} (${system})`, { cause: error });
}
