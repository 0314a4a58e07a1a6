/** How much of a body is held in memory on its way into an archive, known without opening one. */

/** The least S3 takes for a part that is not the last. */
export const MIN_PART_BYTES = 5 * 1024 * 1024;
/** The most parts that S3 takes. */
export const MAX_PARTS = 10_000;

/** Chunks on their way between the source and the parts. */
const CHUNK_SLACK_BYTES = 256 * 1024;

/** One chunk on its way to the disk; the next is not requested before it has been written. */
const DIRECTORY_BYTES = 256 * 1024;

/** What a download holds besides the store: chunks on their way, and the body's first and last bytes. */
export const STREAM_BYTES = 256 * 1024;

/** The size of a part with which an object of `maxObjectBytes` fits into S3's 10,000 parts. */
export function partBytesFor(maxObjectBytes: number): number {
  return Math.max(MIN_PART_BYTES, Math.ceil(maxObjectBytes / MAX_PARTS));
}

/** The most bytes of a body (of unknown size: `undefined`) that an upload to S3 holds. */
export function s3TransferMemory(expectedBytes: number | undefined, partBytes: number): number {
  // One part at a time. Sending it over TLS, Node encrypts the whole buffer into a second one of that size.
  return 2 * Math.min(expectedBytes ?? partBytes, partBytes) + CHUNK_SLACK_BYTES;
}

/** The most bytes of a body that writing it to a file holds. */
export function directoryTransferMemory(expectedBytes: number | undefined): number {
  return Math.min(expectedBytes ?? DIRECTORY_BYTES, DIRECTORY_BYTES);
}

/** What one transfer of a recording of any size holds: with less, `TRANSFER_MEMORY` could not be kept. */
export function leastTransferMemory(kind: 's3' | 'file', maxRecordingBytes: number): number {
  const stored =
    kind === 's3'
      ? s3TransferMemory(undefined, partBytesFor(maxRecordingBytes))
      : directoryTransferMemory(undefined);
  return stored + STREAM_BYTES;
}
