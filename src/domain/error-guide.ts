import type { ErrorCode } from './errors.ts';

/** What an error code means and what to do about it, for people. Names of variables stand in backticks. */
export interface ErrorAdvice {
  readonly meaning: string;
  readonly fix: string;
  /** The variable that says how long such a session is polled, or `forever`; left out where it fails at once. */
  readonly waits?: 'SESSION_WAIT' | 'RECORDING_WAIT' | 'RETRY_WAIT' | 'forever';
}

/** The advice for each code. The table in docs/operations.md is the same. */
export const ERROR_GUIDE: Readonly<Record<ErrorCode, ErrorAdvice>> = {
  KORE_UNAUTHORIZED: {
    meaning: "Kore refuses the credentials, the app's scope or the bot id",
    fix: 'check `KORE_CLIENT_ID`, `KORE_CLIENT_SECRET`, `KORE_BOT_ID`; give the app the scope "SmartAssist Voicemail" and publish it. Sessions wait and go on by themselves',
    waits: 'forever',
  },
  KORE_RATE_LIMITED: {
    meaning: "the limit of calls is used up: the configured one (`KORE_RATE_LIMIT`) or Kore's",
    fix: 'nothing; if the backlog grows, ask Kore for a higher limit',
    waits: 'RETRY_WAIT',
  },
  KORE_UNAVAILABLE: {
    meaning: 'Kore, or something in front of it, does not answer as Kore',
    fix: 'check `KORE_HOST`, the network and the proxy, if it lasts',
    waits: 'RETRY_WAIT',
  },
  KORE_BAD_RESPONSE: {
    meaning: "Kore's answer is cut, too large, has over 200,000 JSON values, or lists over 1,000 recordings",
    fix: 'check the session in Kore; raise `KORE_MAX_ANSWER_BYTES` if the message says so',
    waits: 'RETRY_WAIT',
  },
  SESSION_NOT_FOUND: {
    meaning: 'Kore said for `SESSION_WAIT` that it knows no such session',
    fix: 'check id and bot; Kore may have purged it',
    waits: 'SESSION_WAIT',
  },
  RECORDING_NOT_READY: {
    meaning: 'Kore listed no recording, or one without a URL, for `RECORDING_WAIT`',
    fix: '`retry`, if the recording is there by now',
    waits: 'RECORDING_WAIT',
  },
  RECORDING_UNAVAILABLE: {
    meaning: 'Kore called the media unavailable or failed for `SESSION_WAIT`',
    fix: 'ask Kore; the session has no voicemail',
    waits: 'SESSION_WAIT',
  },
  RECORDING_URL_EXPIRED: {
    meaning: 'the URL was refused, and so were those from fresh metadata',
    fix: "check whether an administrator revoked URLs, and this machine's clock",
    waits: 'RECORDING_WAIT',
  },
  RECORDING_HOST_NOT_ALLOWED: {
    meaning: 'the URL leads to a host or address that is not allowed',
    fix: 'if the host is right, add it to `KORE_MEDIA_HOSTS`, or to `KORE_PRIVATE_MEDIA_HOSTS` if it resolves to a private address; sessions go on by themselves',
    waits: 'RECORDING_WAIT',
  },
  RECORDING_TRUNCATED: {
    meaning: 'downloads broke off before the end, for `RECORDING_WAIT`',
    fix: 'check the way to the media host; `retry`',
    waits: 'RECORDING_WAIT',
  },
  RECORDING_EMPTY: {
    meaning: 'the media host sent no bytes, for `RECORDING_WAIT`',
    fix: 'ask Kore',
    waits: 'RECORDING_WAIT',
  },
  RECORDING_NOT_AUDIO: {
    meaning: 'the media host sent a page in place of audio, for `RECORDING_WAIT`',
    fix: "open the host's page; it may ask for a log-in or be under maintenance",
    waits: 'RECORDING_WAIT',
  },
  RECORDING_TOO_LARGE: {
    meaning: 'more than `MAX_RECORDING_BYTES`',
    fix: 'raise it, then `retry`',
  },
  DOWNLOAD_FAILED: {
    meaning: 'the media host answered with errors, not at all, or slower than `DOWNLOAD_MIN_RATE`',
    fix: 'check the way to the media host; `retry`',
    waits: 'RETRY_WAIT',
  },
  ARCHIVE_DENIED: {
    meaning: 'the bucket is missing, or denies access or the KMS key',
    fix: '`doctor` says which right is missing. Sessions wait and go on by themselves',
    waits: 'forever',
  },
  ARCHIVE_UNAVAILABLE: {
    meaning: 'the bucket, or the disk, does not answer as it should',
    fix: 'check it; sessions go on by themselves',
    waits: 'RETRY_WAIT',
  },
  ARCHIVE_CONFLICT: {
    meaning: "another object lies where this session's is to be",
    fix: 'check it; `enqueue --force` archives again beside or over it',
  },
  INTERNAL: {
    meaning: 'a fault of this program',
    fix: 'report it, with the log line that has the stack',
    waits: 'RETRY_WAIT',
  },
};
