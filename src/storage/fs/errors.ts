import { type ErrorCode, systemCode, VoicemailError } from '../../domain/errors.ts';

interface Meaning {
  readonly code: ErrorCode;
  readonly words: string;
  /** What to do. */
  readonly hint: string;
}

const DENIED = {
  words: 'this program may not read or write there',
  hint: 'give its user the rights to the directory of ARCHIVE_URL',
};
const NO_DIRECTORY = {
  words: 'a file is where a directory belongs',
  hint: 'move it away',
};
const FULL = {
  words: 'the disk is full',
  hint: 'free some space, or name another directory in ARCHIVE_URL',
};
const TOO_MANY_FILES = {
  words: 'too many files are open',
  hint: 'raise the limit (ulimit -n)',
};

const MEANINGS: Readonly<Record<string, Meaning>> = {
  EACCES: { code: 'ARCHIVE_DENIED', ...DENIED },
  EPERM: { code: 'ARCHIVE_DENIED', ...DENIED },
  EROFS: {
    code: 'ARCHIVE_DENIED',
    words: 'the file system is read-only',
    hint: 'mount it writable, or name another directory in ARCHIVE_URL',
  },
  ENOTDIR: { code: 'ARCHIVE_DENIED', ...NO_DIRECTORY },
  EEXIST: { code: 'ARCHIVE_DENIED', ...NO_DIRECTORY }, // what mkdir says of it
  EISDIR: { code: 'ARCHIVE_DENIED', words: 'a directory is where a file belongs', hint: 'move it away' },
  ELOOP: { code: 'ARCHIVE_DENIED', words: 'a symbolic link is where a file belongs', hint: 'move it away' },
  ENXIO: {
    code: 'ARCHIVE_DENIED',
    words: 'a pipe, socket or device is where a file belongs',
    hint: 'move it away',
  },
  ENAMETOOLONG: {
    code: 'ARCHIVE_DENIED',
    words: 'the path is too long for this file system',
    hint: 'name a directory with a shorter path in ARCHIVE_URL',
  },
  ENOSPC: { code: 'ARCHIVE_UNAVAILABLE', ...FULL },
  EDQUOT: { code: 'ARCHIVE_UNAVAILABLE', ...FULL },
  EMFILE: { code: 'ARCHIVE_UNAVAILABLE', ...TOO_MANY_FILES },
  ENFILE: { code: 'ARCHIVE_UNAVAILABLE', ...TOO_MANY_FILES },
};

/**
 * Turns a file system's error into one of ours, in words. What is one of ours already, or no file system's
 * error, is returned as it is.
 */
export function toArchiveFileError(error: unknown, location: string): unknown {
  const system = systemCode(error);
  if (error instanceof VoicemailError || system === undefined) return error;
  const { code, words, hint } = MEANINGS[system] ?? {
    code: 'ARCHIVE_UNAVAILABLE',
    words: 'the disk reports a fault',
    hint: "check the system's log",
  };
  return new VoicemailError(code, `${location}: ${words} (${system})`, { cause: error, hint });
}
