import type { AudioFacts } from '../../domain/recording.ts';
import { type Container, judgeSizes, known64, type SampleData } from './container.ts';
import { type PartLength, PartWalker } from './part-walker.ts';
import { readWaveFormat, WAVE_FORMAT_BYTES } from './wav.ts';

/** GUIDs of Microsoft's "Advanced Systems Format (ASF) Specification", section 10, as they stand in a file. */
const HEADER_OBJECT = '3026b2758e66cf11a6d900aa0062ce6c';
const DATA_OBJECT = '3626b2758e66cf11a6d900aa0062ce6c';
const FILE_PROPERTIES = 'a1dcab8c47a9cf118ee400c00c205365';
const STREAM_PROPERTIES = '9107dcb7b7a9cf118ee600c00c205365';
const AUDIO_MEDIA = '409e69f84d5bcf11a8fd00805f5c442b';

const OBJECT_HEADER_BYTES = 24;
/** Where the objects in the header object begin. */
const HEADER_CONTENT_AT = 30;
/** Before a stream's own format: two GUIDs, an offset, two lengths, flags and a reserved number. */
const STREAM_FORMAT_AT = OBJECT_HEADER_BYTES + 54;
const FILE_PROPERTIES_BYTES = 104;
const IS_BROADCAST = 1;

/** What the header object says. */
interface AsfHeader {
  readonly fileBytes?: number;
  readonly facts: Omit<AudioFacts, 'container'>;
}

/** ASF, the container of WMA: objects of a GUID and 64 bits of size. */
export function recogniseAsf(head: Buffer): Container | undefined {
  if (head.toString('hex', 0, 16) !== HEADER_OBJECT || head.length < HEADER_CONTENT_AT) return undefined;
  const { fileBytes, facts } = readHeader(head);
  let data: SampleData | undefined;

  function readObject(header: Buffer, at: number): PartLength | undefined {
    const bytes = known64(header.readBigUInt64LE(16));
    if (header.toString('hex', 0, 16) === DATA_OBJECT && data === undefined) {
      data = { start: at + OBJECT_HEADER_BYTES, end: bytes === undefined ? undefined : at + bytes };
      return { bytes: bytes ?? Number.POSITIVE_INFINITY };
    }
    return bytes === undefined ? undefined : { bytes };
  }

  const objects = new PartWalker(0, OBJECT_HEADER_BYTES, readObject);
  return {
    contentType: 'audio/x-ms-wma',
    tailBytes: 0,
    add: (chunk) => objects.add(chunk),
    conclude: (totalBytes) => ({
      facts: { container: 'asf', ...facts },
      ...judgeSizes(totalBytes, { data, fileEnd: fileBytes }, objects),
    }),
  };
}

function readHeader(head: Buffer): AsfHeader {
  let header: AsfHeader = { facts: {} };
  const end = Math.min(head.length, Number(head.readBigUInt64LE(16)));
  for (let at = HEADER_CONTENT_AT; at + OBJECT_HEADER_BYTES <= end; ) {
    const bytes = known64(head.readBigUInt64LE(at + 16));
    if (bytes === undefined || bytes < OBJECT_HEADER_BYTES) break;
    const object = head.subarray(at, Math.min(end, at + bytes));
    const guid = object.toString('hex', 0, 16);
    if (guid === FILE_PROPERTIES && object.length >= FILE_PROPERTIES_BYTES) {
      header = { ...readFileProperties(object), facts: { ...header.facts, ...readDuration(object) } };
    }
    if (guid === STREAM_PROPERTIES && object.length >= STREAM_FORMAT_AT + WAVE_FORMAT_BYTES) {
      if (object.toString('hex', 24, 40) === AUDIO_MEDIA) {
        const { bytesPerSecond: _, ...format } = readWaveFormat(object.subarray(STREAM_FORMAT_AT));
        header = { ...header, facts: { ...header.facts, ...format } };
      }
    }
    at += bytes;
  }
  return header;
}

/** What is sent live has no size and no duration. */
function isLive(properties: Buffer): boolean {
  return (properties.readUInt32LE(88) & IS_BROADCAST) !== 0;
}

function readFileProperties(properties: Buffer): { fileBytes?: number } {
  const fileBytes = isLive(properties) ? undefined : known64(properties.readBigUInt64LE(40));
  return fileBytes === undefined ? {} : { fileBytes };
}

/** The play duration in units of 100 ns, less the preroll in milliseconds that it counts. */
function readDuration(properties: Buffer): { durationSeconds?: number } {
  const played = isLive(properties) ? undefined : known64(properties.readBigUInt64LE(64));
  if (played === undefined) return {};
  const preroll = known64(properties.readBigUInt64LE(80)) ?? 0;
  return { durationSeconds: Math.max(0, played / 1e7 - preroll / 1000) };
}
