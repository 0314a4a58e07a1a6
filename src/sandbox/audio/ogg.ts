import { seededBytes } from '../seeded-values.ts';
import { oggCrc } from './source.ts';

/** Opus always counts in 48 kHz, whatever went in: https://www.rfc-editor.org/rfc/rfc7845#section-4 */
const GRANULES_PER_SECOND = 48_000;
const PACKET_GRANULES = 960;
const PACKETS_PER_PAGE = 50;
const PRE_SKIP_GRANULES = 312;
/** 20 ms of silence, mono: CELT, full band. */
const SILENT_PACKET = Buffer.from([0xf8, 0xff, 0xfe]);

const FIRST_PAGE = 0x02;
const LAST_PAGE = 0x04;

/**
 * An Ogg file with an Opus stream of silence. Its serial number and its title make it unique.
 * Pages as in https://www.rfc-editor.org/rfc/rfc3533, headers as in https://www.rfc-editor.org/rfc/rfc7845
 */
export function makeOgg(seed: string, seconds: number): Buffer {
  const serial = seededBytes(`ogg ${seed}`, 4).readUInt32LE();
  const granules = PRE_SKIP_GRANULES + Math.round(seconds * GRANULES_PER_SECOND);
  const packets = Math.ceil(granules / PACKET_GRANULES);
  const pages = [
    page(serial, 0, FIRST_PAGE, 0, [opusHead()]),
    page(serial, 1, 0, 0, [opusTags(`Voicemail ${seed}`)]),
  ];
  for (let done = 0; done < packets; ) {
    const count = Math.min(PACKETS_PER_PAGE, packets - done);
    done += count;
    const last = done === packets;
    const granule = last ? granules : done * PACKET_GRANULES;
    const silence = new Array<Buffer>(count).fill(SILENT_PACKET);
    pages.push(page(serial, pages.length, last ? LAST_PAGE : 0, granule, silence));
  }
  return Buffer.concat(pages);
}

function opusHead(): Buffer {
  const head = Buffer.alloc(19);
  head.write('OpusHead', 0, 'latin1');
  head.writeUInt8(1, 8);
  head.writeUInt8(1, 9);
  head.writeUInt16LE(PRE_SKIP_GRANULES, 10);
  head.writeUInt32LE(8000, 12);
  return head;
}

function opusTags(title: string): Buffer {
  const vendor = Buffer.from('voicemail-archiver sandbox');
  const comment = Buffer.from(`TITLE=${title}`);
  return Buffer.concat([Buffer.from('OpusTags'), counted(vendor), uint32(1), counted(comment)]);
}

function counted(text: Buffer): Buffer {
  return Buffer.concat([uint32(text.length), text]);
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function page(serial: number, sequence: number, flags: number, granule: number, packets: Buffer[]): Buffer {
  const lacing = packets.flatMap((packet) => [
    ...new Array<number>(Math.floor(packet.length / 255)).fill(255),
    packet.length % 255,
  ]);
  const header = Buffer.alloc(27);
  header.write('OggS', 0, 'latin1');
  header.writeUInt8(flags, 5);
  header.writeBigUInt64LE(BigInt(granule), 6);
  header.writeUInt32LE(serial, 14);
  header.writeUInt32LE(sequence, 18);
  header.writeUInt8(lacing.length, 26);
  const whole = Buffer.concat([header, Buffer.from(lacing), ...packets]);
  // The checksum is taken over the page with zeros in the checksum's own place.
  whole.writeUInt32LE(oggCrc(whole), 22);
  return whole;
}
