/** Erasing and holding the sessions of an archive in a bucket: the rights that this takes, tried without harm. */

import { DeleteObjectCommand, type S3Client } from '@aws-sdk/client-s3';
import { newEraseProbeDirectory, newProbeDirectory, PROBE_BODY, PROBE_INFO } from '../storage/keys.ts';
import { createS3Client, ownerParameters, type S3Connection } from '../storage/s3/client.ts';
import { toArchiveS3Error } from '../storage/s3/errors.ts';
import type { ObjectAddress } from '../storage/s3/lookup.ts';
import { createS3Store, type S3Target } from '../storage/s3/store.ts';
import type { ArchiveStore } from '../storage/store.ts';
import {
  isForbidden,
  type Leftover,
  MAX_ATTEMPTS,
  PROBE_REMOVAL_MS,
  removeProbe,
  thrownBy,
} from './bucket-probe.ts';
import { type CheckResult, faultOf, ok, skipped, warning } from './check.ts';

/** Names of the checks. */
export const ERASE_CHECK = 'archive erase';
export const HOLD_CHECK = 'archive hold';

/** The version of an object that was written without versions; an unused key never has it. */
const NO_VERSION = 'null';

/** What was found. A fault is what the store or the network said; `undefined` where all went well. */
interface CustodyFindings {
  readonly writeFault: unknown;
  /** Listing versions. */
  readonly listFault: unknown;
  /** Reading legal hold and retention. */
  readonly lockFault: unknown;
  /** Setting a legal hold. */
  readonly holdFault: unknown;
  readonly deleteFault: unknown;
  /** Whether the bucket has Object Lock; `undefined` where it does not say. */
  readonly hasLock: boolean | undefined;
  readonly leftover: Leftover | undefined;
}

/** Two results. Sessions are archived without these rights, so that no more than a warning comes of them. */
export async function checkCustody(
  target: S3Target,
  connection: S3Connection,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  const found = await tryCustody(target, { maxAttempts: MAX_ATTEMPTS, ...connection }, signal);
  signal.throwIfAborted();
  if (found.writeFault !== undefined) {
    return [ERASE_CHECK, HOLD_CHECK].map((name) => skipped(name, 'there is no object to try it with'));
  }
  return [judgeErase(found, target), judgeHold(found, target)];
}

async function tryCustody(
  target: S3Target,
  connection: S3Connection,
  signal: AbortSignal,
): Promise<CustodyFindings> {
  const client = createS3Client(target.s3, connection);
  const unlocked = { ...target, s3: { ...target.s3, objectLock: undefined } };
  const store = createS3Store(unlocked, { connection });
  const addressOf = (key: string): ObjectAddress => ({
    Bucket: target.bucket,
    Key: store.fullKey(key),
    ...ownerParameters(target.s3),
  });
  try {
    const eraseDirectory = newEraseProbeDirectory();
    const nothing = { ...addressOf(`${eraseDirectory}probe`), VersionId: NO_VERSION };
    // Rights come before existence: a refusal shows the missing right while there is nothing that would stay behind.
    const refusal = await thrownBy(() =>
      client.send(new DeleteObjectCommand(nothing), { abortSignal: signal }),
    );
    const mayErase = !isForbidden(refusal);
    const directory = mayErase ? eraseDirectory : newProbeDirectory();
    const address = addressOf(`${directory}probe`);
    const found = await tryObject(client, store, { directory, address, mayErase }, signal);
    return { ...found, deleteFault: mayErase ? found.deleteFault : refusal };
  } finally {
    client.destroy();
    await store.close();
  }
}

interface Probe {
  readonly directory: string;
  readonly address: ObjectAddress;
  readonly mayErase: boolean;
}

async function tryObject(
  client: S3Client,
  store: ArchiveStore,
  { directory, address, mayErase }: Probe,
  signal: AbortSignal,
): Promise<CustodyFindings> {
  const key = `${directory}probe`;
  const version = { key, bytes: PROBE_BODY.length, isDeleteMarker: false };
  const writeFault = await thrownBy(() => store.write(key, PROBE_BODY, PROBE_INFO, 'replace', signal));
  const isWritten = writeFault === undefined;
  let leftover: Leftover | undefined;
  let listFault: unknown;
  let lockFault: unknown;
  let holdFault: unknown;
  let hasLock: boolean | undefined;
  try {
    if (isWritten) {
      listFault = await thrownBy(async () => {
        for await (const _version of store.versions.list(directory, signal)) signal.throwIfAborted();
      });
      lockFault = await thrownBy(async () => {
        hasLock = (await store.versions.protection(version, signal)) !== 'unsupported';
      });
      // Taking off what is not there takes the same right, and holds nothing should this process be killed.
      holdFault = await thrownBy(async () => {
        const isSet = await store.versions.setLegalHold(version, false, signal);
        hasLock ??= isSet;
      });
    }
  } finally {
    // A write whose answer was lost may have happened all the same.
    leftover = await removeProbe(client, address, isWritten);
  }
  const deleteFault = isWritten && mayErase ? await thrownBy(() => tryHiding(client, address)) : undefined;
  return { writeFault, listFault, lockFault, holdFault, deleteFault, hasLock, leftover };
}

/** Deletes what is gone already, which in a bucket with versions leaves a marker: that is deleted for good. */
async function tryHiding(client: S3Client, address: ObjectAddress): Promise<void> {
  const abortSignal = AbortSignal.timeout(PROBE_REMOVAL_MS);
  const { VersionId, DeleteMarker } = await client.send(new DeleteObjectCommand(address), { abortSignal });
  if (!DeleteMarker || VersionId === undefined) return;
  await client.send(new DeleteObjectCommand({ ...address, VersionId }), { abortSignal });
}

function judgeErase(found: CustodyFindings, target: S3Target): CheckResult {
  const rights = [
    { fault: found.deleteFault, right: 's3:DeleteObject, s3:DeleteObjectVersion' },
    { fault: found.lockFault, right: 's3:GetObjectRetention, s3:GetObjectLegalHold' },
    { fault: found.listFault, right: `s3:ListBucketVersions (on the bucket)` },
  ];
  const problem = judgeRights(ERASE_CHECK, 'sessions can not be erased from here', rights, target);
  if (problem) return problem;
  if (found.leftover) {
    return warning(
      ERASE_CHECK,
      `the rights are there, and the bucket keeps the probe all the same (${found.leftover.key}), as one with a default retention does`,
      'expect erase to refuse sessions until their retention has ended, and delete the probe then',
    );
  }
  return ok(ERASE_CHECK, 'versions were listed, their locks read, and all of them deleted');
}

function judgeHold(found: CustodyFindings, target: S3Target): CheckResult {
  const rights = [
    { fault: found.holdFault, right: 's3:PutObjectLegalHold' },
    { fault: found.lockFault, right: 's3:GetObjectLegalHold, s3:GetObjectRetention' },
    { fault: found.listFault, right: `s3:ListBucketVersions (on the bucket)` },
  ];
  const what = 'the objects of held sessions can not be held by Object Lock from here';
  // Without Object Lock a hold is what the archive's own record says, which takes no other right.
  if (found.hasLock === false) {
    return ok(HOLD_CHECK, 'the bucket has no Object Lock: holds are kept by the archive alone (hold.json)');
  }
  return (
    judgeRights(HOLD_CHECK, what, rights, target) ??
    ok(HOLD_CHECK, 'the legal hold of an object was read and set to off; nothing was held')
  );
}

function judgeRights(
  name: string,
  what: string,
  rights: readonly { readonly fault: unknown; readonly right: string }[],
  { bucket, prefix }: S3Target,
): CheckResult | undefined {
  const faults = rights.filter(({ fault }) => fault !== undefined);
  const [fault] = faults;
  if (!fault) return undefined;
  const missing = faults.filter((one) => isForbidden(one.fault));
  if (missing.length === 0) {
    const { message, fix } = faultOf(toArchiveS3Error(fault.fault, bucket), 'run this again');
    return warning(name, `it could not be tried: ${message}`, fix);
  }
  const objects = `arn:aws:s3:::${prefix === '' ? bucket : `${bucket}/${prefix}`}/*`;
  return warning(
    name,
    `${what}: rights are missing`,
    `where it shall be done, allow ${missing.map(({ right }) => right).join(', ')} on ${objects}`,
  );
}
