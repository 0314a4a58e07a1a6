/** What S3 and the SDK answer when something is wrong, in our codes and in words. */

import { type ErrorCode, VoicemailError } from '../../domain/errors.ts';
import { printable } from '../../util/text.ts';

/** The longest code that S3 has is half of that. */
const MAX_CODE_CHARACTERS = 80;

/** The HTTP status of an error that is a store's answer. */
export function statusOf(error: unknown): number | undefined {
  const metadata = property(error, '$metadata');
  const status = property(metadata, 'httpStatusCode');
  return typeof status === 'number' ? status : undefined;
}

/** How often the request was sent before the SDK gave up; 1 where it does not say. */
export function attemptsOf(error: unknown): number {
  const attempts = property(property(error, '$metadata'), 'attempts');
  return typeof attempts === 'number' ? attempts : 1;
}

/** The store's code (`NoSuchKey`) or the name of the SDK's own error. */
export function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : '';
}

/** `If-None-Match: *` was answered: something is there already. */
export function isPreconditionFailed(error: unknown): boolean {
  return nameOf(error) === 'PreconditionFailed' || statusOf(error) === 412;
}

/** Two conditional writes met; neither is decided yet. */
export function isConditionalConflict(error: unknown): boolean {
  return nameOf(error) === 'ConditionalRequestConflict' || statusOf(error) === 409;
}

/** The store does not know the header (or the request). */
export function isNotImplemented(error: unknown): boolean {
  return nameOf(error) === 'NotImplemented' || statusOf(error) === 501;
}

/** The request makes no sense for this bucket: what it asks of Object Lock, where the bucket has none. */
export function isInvalidRequest(error: unknown): boolean {
  return nameOf(error) === 'InvalidRequest';
}

/** The store did not get the bytes that were sent, and refused them: the same request again may succeed. */
export function isDamaged(error: unknown): boolean {
  return DAMAGED_NAMES.includes(nameOf(error));
}

const DAMAGED_NAMES = [
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
  'IncompleteBody',
];

/** No object under that key. A missing bucket says `NoSuchBucket`, except to HEAD, which has no body to say it in. */
export function isNoSuchKey(error: unknown): boolean {
  const name = nameOf(error);
  return name === 'NoSuchKey' || name === 'NotFound' || (statusOf(error) === 404 && name !== 'NoSuchBucket');
}

/**
 * An answer with a status of success that no store gave: some proxies answer 200, with a page of their own, to
 * anything.
 */
export function notFromStore(what: string): VoicemailError {
  return new VoicemailError('ARCHIVE_UNAVAILABLE', `the bucket answered ${what}`, {
    hint: 'check what is between here and the store: some proxies answer 200 to anything',
  });
}

/** A write was answered as done, but not by a store, which names what it stored. */
export function unconfirmed(): VoicemailError {
  return notFromStore('a write without an ETag');
}

/** A multipart upload that is not there (any more). */
export function isNoSuchUpload(error: unknown): boolean {
  return nameOf(error) === 'NoSuchUpload' || statusOf(error) === 404;
}

interface Meaning {
  readonly code: ErrorCode;
  readonly words: (bucket: string) => string;
  /** What to do. */
  readonly hint: string | undefined;
}

function denied(words: (bucket: string) => string, hint: string): Meaning {
  return { code: 'ARCHIVE_DENIED', words, hint };
}

function unavailable(words: string, hint?: string): Meaning {
  return { code: 'ARCHIVE_UNAVAILABLE', words: () => words, hint };
}

const WRONG_REGION = denied(
  (bucket) => `bucket ${bucket} is in another region`,
  "set AWS_REGION to the bucket's own",
);
const EXPIRED = denied(
  () => 'the credentials have expired',
  'renew them (AWS_SESSION_TOKEN, the profile or the role)',
);
const NO_CREDENTIALS = denied(
  () => 'no credentials were found',
  'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role',
);
const FORBIDDEN = denied(
  (bucket) => `access to bucket ${bucket} is denied`,
  'give the credentials s3:GetObject, s3:PutObject, s3:AbortMultipartUpload, ' +
    's3:ListMultipartUploadParts, s3:ListBucket and s3:ListBucketMultipartUploads on it (without s3:ListBucket a missing object looks forbidden), s3:PutObjectTagging for ' +
    'S3_TAGS, s3:PutObjectRetention for S3_OBJECT_LOCK and the rights of the KMS key; S3_EXPECTED_BUCKET_OWNER, where set, must be the owner',
);
const KEY_DENIED = denied(
  () => 'the KMS key may not be used',
  'give the credentials kms:GenerateDataKey and kms:Decrypt on the key of S3_KMS_KEY_ID, in its key policy too',
);
const KEY_DISABLED = denied(
  () => 'the KMS key is disabled',
  'enable the KMS key, or name another one in S3_KMS_KEY_ID',
);
const DAMAGED = unavailable('the bytes were damaged between here and the bucket, which was noticed');
const UNREACHABLE = unavailable(
  'the bucket can not be reached',
  'check the network, and AWS_ENDPOINT_URL_S3 if it is set',
);
const PROXY_REFUSES = unavailable(
  'the proxy does not let the bucket through',
  'check HTTPS_PROXY (user, password, its rules), or name the bucket in NO_PROXY',
);
const BAD_CERTIFICATE = denied(
  () => "the store's certificate is not trusted",
  'name its authority in NODE_EXTRA_CA_CERTS',
);
const SLOW_REQUEST = unavailable('the bucket did not get the request in time');
const BUSY = unavailable('the bucket asks to slow down');
const FAULT = unavailable('the bucket reports a passing fault');

/** By the store's code, or by the system's (`ECONNREFUSED`). */
const MEANINGS: ReadonlyMap<string, Meaning> = new Map<string, Meaning>(
  Object.entries({
    NoSuchBucket: denied(
      (bucket) => `bucket ${bucket} does not exist`,
      'create it, or correct ARCHIVE_URL (or AWS_ENDPOINT_URL_S3)',
    ),
    InvalidBucketName: denied((bucket) => `${bucket} is no name of a bucket`, 'correct ARCHIVE_URL'),
    InvalidAccessKeyId: denied(
      () => 'the store does not know the access key',
      'correct AWS_ACCESS_KEY_ID or the profile',
    ),
    SignatureDoesNotMatch: denied(
      () => 'the signature is refused',
      'correct AWS_SECRET_ACCESS_KEY or the profile (and check AWS_REGION)',
    ),
    ExpiredToken: EXPIRED,
    ExpiredTokenException: EXPIRED,
    TokenRefreshRequired: EXPIRED,
    InvalidClientTokenId: denied(
      () => 'AWS does not know the access key',
      'correct AWS_ACCESS_KEY_ID or the profile',
    ),
    InvalidToken: denied(() => 'the session token is refused', 'renew AWS_SESSION_TOKEN'),
    RequestTimeTooSkewed: denied(() => "this machine's clock is wrong", 'set the clock'),
    CredentialsProviderError: NO_CREDENTIALS,
    TokenProviderError: EXPIRED,
    AuthorizationHeaderMalformed: WRONG_REGION,
    PermanentRedirect: WRONG_REGION,
    IllegalLocationConstraintException: WRONG_REGION,
    QuotaExceeded: denied((bucket) => `the quota of bucket ${bucket} is used up`, 'raise the quota'),
    InvalidObjectState: denied(
      () => 'the object is in a class that has to be restored before it can be read',
      'restore the object (s3:RestoreObject)',
    ),
    NotImplemented: denied(
      () => 'the store does not know one of the S3_* settings',
      'leave out what it does not offer',
    ),
    BadDigest: DAMAGED,
    XAmzContentSHA256Mismatch: DAMAGED,
    XAmzContentChecksumMismatch: DAMAGED,
    IncompleteBody: DAMAGED,
    NoSuchUpload: unavailable('the upload was ended from outside'),
    PreconditionFailed: unavailable('an object came and went at that key'),
    ConditionalRequestConflict: unavailable('others write the same object at this moment'),
    RequestTimeout: SLOW_REQUEST,
    SlowDown: BUSY,
    TimeoutError: UNREACHABLE,
    ECONNREFUSED: UNREACHABLE,
    ECONNRESET: UNREACHABLE,
    ECONNABORTED: UNREACHABLE,
    EPIPE: UNREACHABLE,
    ETIMEDOUT: UNREACHABLE,
    EHOSTUNREACH: UNREACHABLE,
    ENETUNREACH: UNREACHABLE,
    ENOTFOUND: UNREACHABLE,
    EAI_AGAIN: UNREACHABLE,
    ERR_PROXY_TUNNEL: PROXY_REFUSES,
    SELF_SIGNED_CERT_IN_CHAIN: BAD_CERTIFICATE,
    DEPTH_ZERO_SELF_SIGNED_CERT: BAD_CERTIFICATE,
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: BAD_CERTIFICATE,
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY: BAD_CERTIFICATE,
    CERT_HAS_EXPIRED: BAD_CERTIFICATE,
    ERR_TLS_CERT_ALTNAME_INVALID: BAD_CERTIFICATE,
  }),
);

/**
 * What S3 says of the KMS key, by what follows `KMS.`; KMS's own names.
 * https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html#API_GenerateDataKey_Errors
 */
const KMS_MEANINGS: ReadonlyMap<string, Meaning> = new Map(
  Object.entries({
    DisabledException: KEY_DISABLED,
    KMSInvalidStateException: denied(
      () => 'the KMS key is disabled or about to be deleted',
      'enable the KMS key (or cancel its deletion), or name another one in S3_KMS_KEY_ID',
    ),
    NotFoundException: denied(
      () => 'the KMS key does not exist',
      "correct S3_KMS_KEY_ID: the key must be in the bucket's region and named by its ARN if it is another account's",
    ),
    InvalidKeyUsageException: denied(
      () => 'the KMS key is not for encrypting',
      'name a symmetric encryption key in S3_KMS_KEY_ID',
    ),
    ThrottlingException: BUSY,
    LimitExceededException: BUSY,
    KMSInternalException: FAULT,
    DependencyTimeoutException: FAULT,
    KeyUnavailableException: FAULT,
  }),
);

/**
 * Turns an error of the store, of the SDK or of the network into a VoicemailError, in words. A VoicemailError
 * already, or a plain fault in the program, is returned as it is.
 */
export function toArchiveS3Error(error: unknown, bucket: string): unknown {
  if (error instanceof VoicemailError || !(error instanceof Error)) return error;
  const meaning = meaningOf(error);
  if (!meaning) return error;
  const { code, words, hint } = meaning;
  const status = statusOf(error);
  // The store's code is a text from outside.
  const shown = [nameOf(error), systemCode(error), status]
    .filter((part) => part !== undefined && part !== 'Error')
    .map((part) => printable(String(part), MAX_CODE_CHARACTERS));
  const detail = shown.length > 0 ? ` (${shown.join(', ')})` : '';
  return new VoicemailError(code, `${words(bucket)}${detail}`, {
    cause: error,
    ...(hint !== undefined && { hint }),
  });
}

function meaningOf(error: Error): Meaning | undefined {
  const known = MEANINGS.get(error.name) ?? MEANINGS.get(systemCode(error) ?? '');
  if (known) return known;
  if (error.name.startsWith('KMS.')) return KMS_MEANINGS.get(error.name.slice('KMS.'.length)) ?? KEY_DENIED;
  // The SDK throws these two as plain errors.
  if (/^Region (is missing|not accepted)/.test(error.message))
    return denied(() => 'no region is set', 'set AWS_REGION');
  if (error.message.startsWith('Checksum mismatch')) return DAMAGED;
  const status = statusOf(error);
  // S3 answers a missing right on the key like one on the bucket, and names the right in words.
  if (status === 403 && /\bkms:[A-Z]/.test(error.message)) return KEY_DENIED;
  if (status === 401 || status === 403) return FORBIDDEN;
  if (status === 407) return PROXY_REFUSES;
  if (status === 408) return SLOW_REQUEST;
  if (status === 301 || status === 307) return WRONG_REGION;
  if (status === 429) return BUSY;
  if (status !== undefined && status >= 400 && status < 500) {
    return denied(
      (bucket) => `bucket ${bucket} refuses the request`,
      'check the S3_* settings, AWS_REGION and the credentials',
    );
  }
  return status === undefined && systemCode(error) === undefined ? undefined : FAULT;
}

function systemCode(error: unknown): string | undefined {
  const code = property(error, 'code');
  return typeof code === 'string' ? code : undefined;
}

function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}
