/** An archive in a bucket: the rights that are used, each proven by using it. */

import type { LifecycleRule } from '@aws-sdk/client-s3';
import { PROBE_PATTERN } from '../storage/keys.ts';
import type { S3Connection } from '../storage/s3/client.ts';
import { isNotImplemented, nameOf, toArchiveS3Error } from '../storage/s3/errors.ts';
import type { S3Target } from '../storage/s3/store.ts';
import { checkCustody, ERASE_CHECK, HOLD_CHECK } from './bucket-custody.ts';
import { type BucketFindings, inspectBucket, isForbidden } from './bucket-probe.ts';
import { type CheckResult, failed, faultOf, ok, skipped, warning } from './check.ts';
import type { ClockComparison } from './clock.ts';

const ARCHIVE = 'archive';
const OVERWRITES = 'archive overwrites';
const PARTS = 'archive parts';
const LIFECYCLE = 'archive lifecycle';

const NETWORK_FIX = 'check the network between here and the bucket, and AWS_ENDPOINT_URL_S3 if it is set';

/**
 * Six results: written, read and deleted; never overwritten; large objects; what clears unfinished ones; erasing
 * sessions; holding them.
 */
export async function checkBucket(
  target: S3Target,
  clock: ClockComparison,
  connection: S3Connection,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  const onDate = (date: string | undefined) => clock.observe('the bucket', date);
  const found = await inspectBucket(target, { connection, onDate }, signal);
  const { writeFault } = found.object;
  const use = judgeUse(found, target);
  if (writeFault !== undefined && !isForbidden(writeFault)) {
    const rest = [OVERWRITES, PARTS, LIFECYCLE, ERASE_CHECK, HOLD_CHECK].map((name) =>
      skipped(name, 'the bucket is of no use'),
    );
    return [use, ...rest];
  }
  return [
    use,
    judgeOverwrites(found),
    judgeParts(found, target),
    judgeLifecycle(found, target),
    ...(await checkCustody(target, connection, signal)),
  ];
}

function judgeUse({ object }: BucketFindings, target: S3Target): CheckResult {
  const location = sayLocation(target);
  const { writeFault, readFault, listFault, leftover } = object;
  if (writeFault !== undefined && !isForbidden(writeFault)) return fail(ARCHIVE, writeFault, target);
  const denied = [
    { fault: writeFault, right: 's3:PutObject', what: 'written' },
    { fault: readFault, right: 's3:GetObject', what: 'read' },
    { fault: listFault, right: 's3:ListBucket', what: 'listed' },
  ].filter(({ fault }) => fault !== undefined);
  const [first] = denied;
  if (first) {
    if (!denied.every(({ fault }) => isForbidden(fault))) {
      const other = denied.find(({ fault }) => !isForbidden(fault)) ?? first;
      return fail(ARCHIVE, other.fault, target);
    }
    const cannot = denied.map(({ what }) => what).join(', nor ');
    return failed(
      ARCHIVE,
      `objects in ${location} may not be ${cannot}`,
      `allow the credentials ${denied.map(({ right }) => right).join(', ')}${optionalRights(target)} there`,
    );
  }
  if (leftover?.kind === 'object') {
    return warning(
      ARCHIVE,
      `${location} works; the probe could not be deleted and stays at ${leftover.key}, which does no harm`,
      `delete it, and allow s3:DeleteObject on ${arn(target, PROBE_PATTERN)} (of the archive itself only erase deletes anything)`,
    );
  }
  if (leftover) {
    return warning(
      ARCHIVE,
      `${location} works; the probe is deleted, and the bucket keeps a version of it (${leftover.key})`,
      `let it expire, or allow s3:DeleteObjectVersion on ${arn(target, PROBE_PATTERN)}`,
    );
  }
  return ok(ARCHIVE, `${location}: an object was written, read, listed and deleted`);
}

function judgeOverwrites({ keepsCondition }: BucketFindings): CheckResult {
  if (keepsCondition === true) return ok(OVERWRITES, 'refused by the store itself (If-None-Match)');
  if (keepsCondition === undefined) return skipped(OVERWRITES, 'could not be tried');
  return warning(
    OVERWRITES,
    'the store does not know If-None-Match: existing objects are looked up before each write, and two workers on the same session at the same moment may write both',
    'upgrade the store, or let one worker alone write to it',
  );
}

function judgeParts({ parts }: BucketFindings, target: S3Target): CheckResult {
  const { uploadFault, listFault, abortFault } = parts;
  const objects = arn(target, '*');
  if (uploadFault !== undefined) {
    if (!isForbidden(uploadFault)) return fail(PARTS, uploadFault, target);
    return failed(
      PARTS,
      'large recordings can not be uploaded',
      `allow s3:PutObject${optionalRights(target)} on ${objects}`,
    );
  }
  if (abortFault !== undefined) {
    if (!isForbidden(abortFault)) return fail(PARTS, abortFault, target);
    return failed(
      PARTS,
      'unfinished uploads can not be removed, the one of this check included',
      `allow s3:AbortMultipartUpload on ${objects}`,
    );
  }
  if (listFault !== undefined) {
    const why = isForbidden(listFault) ? '' : ` (${nameOf(listFault)})`;
    return warning(
      PARTS,
      `uploads and their parts can not be listed, as is done after a lost answer to clear up${why}`,
      `allow s3:ListMultipartUploadParts on ${objects}, and s3:ListBucketMultipartUploads on arn:aws:s3:::${target.bucket}`,
    );
  }
  const locked = target.s3.objectLock ? ', with object lock' : '';
  return ok(PARTS, `an upload was begun${locked}, given a part, and removed`);
}

function judgeLifecycle({ lifecycle }: BucketFindings, target: S3Target): CheckResult {
  const { rules, fault } = lifecycle;
  if (!rules) {
    if (isForbidden(fault)) {
      return skipped(
        LIFECYCLE,
        'the rules may not be read (s3:GetLifecycleConfiguration), so check them yourself',
      );
    }
    if (isNotImplemented(fault)) return skipped(LIFECYCLE, 'the store has no lifecycle rules');
    return skipped(
      LIFECYCLE,
      `the rules could not be read: ${fault instanceof Error ? fault.message : fault}`,
    );
  }
  const days = rules.flatMap((rule) => daysOf(rule, target));
  if (days.length > 0) {
    return ok(LIFECYCLE, `unfinished uploads are removed after ${Math.min(...days)} day(s)`);
  }
  const rule = {
    Rules: [
      {
        ID: 'abort-incomplete',
        Status: 'Enabled',
        Filter: {},
        AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
      },
    ],
  };
  const isAlone = rules.length === 0;
  return warning(
    LIFECYCLE,
    'no rule removes the parts of uploads of killed workers: they are invisible, and cost money',
    isAlone
      ? `aws s3api put-bucket-lifecycle-configuration --bucket ${target.bucket} --lifecycle-configuration '${JSON.stringify(rule)}'`
      : `add to the bucket's rules: ${JSON.stringify(rule.Rules[0])}`,
  );
}

/** After how many days a rule removes unfinished uploads of the archive; nothing where it does not. */
function daysOf(rule: LifecycleRule, { prefix }: S3Target): number[] {
  const { Status, Filter, Prefix, AbortIncompleteMultipartUpload } = rule;
  const days = AbortIncompleteMultipartUpload?.DaysAfterInitiation;
  if (Status !== 'Enabled' || days === undefined) return [];
  const isNarrowed = Filter?.Tag !== undefined || Filter?.And?.Tags !== undefined;
  const below = Filter?.Prefix ?? Filter?.And?.Prefix ?? Prefix ?? '';
  const keys = prefix === '' ? '' : `${prefix}/`;
  return !isNarrowed && keys.startsWith(below) ? [days] : [];
}

function fail(name: string, fault: unknown, { bucket }: S3Target): CheckResult {
  const { message, fix } = faultOf(toArchiveS3Error(fault, bucket), NETWORK_FIX);
  return failed(name, message, fix);
}

/** What the settings ask for beyond the objects themselves. */
function optionalRights({ s3 }: S3Target): string {
  const rights = [
    s3.tags !== undefined && 's3:PutObjectTagging',
    s3.objectLock !== undefined && 's3:PutObjectRetention',
    s3.sse?.startsWith('aws:kms') && 'kms:GenerateDataKey, kms:Decrypt',
  ].filter((right) => typeof right === 'string');
  const owner =
    s3.expectedBucketOwner === undefined ? '' : ', and S3_EXPECTED_BUCKET_OWNER must be the owner';
  return `${rights.map((right) => `, ${right}`).join('')}${owner}`;
}

function sayLocation({ bucket, prefix }: S3Target): string {
  return prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
}

function arn({ bucket, prefix }: S3Target, keys: string): string {
  return `arn:aws:s3:::${prefix === '' ? bucket : `${bucket}/${prefix}`}/${keys}`;
}
