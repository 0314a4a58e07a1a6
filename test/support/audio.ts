import { randomBytes } from 'node:crypto';

/** A WAV of 8 kHz mono 16-bit samples. `riffBytes` and `dataBytes` replace what its header says of sizes. */
export function wav(
  samples: Buffer,
  claims: { riffBytes?: number; dataBytes?: number; before?: Buffer } = {},
): Buffer {
  const format = Buffer.alloc(24);
  format.write('fmt ', 0, 'latin1');
  format.writeUInt32LE(16, 4);
  format.writeUInt16LE(1, 8);
  format.writeUInt16LE(1, 10);
  format.writeUInt32LE(8000, 12);
  format.writeUInt32LE(16_000, 16);
  format.writeUInt16LE(2, 20);
  format.writeUInt16LE(16, 22);
  const data = Buffer.alloc(8);
  data.write('data', 0, 'latin1');
  data.writeUInt32LE(claims.dataBytes ?? samples.length, 4);
  const content = Buffer.concat([
    Buffer.from('WAVE'),
    claims.before ?? Buffer.alloc(0),
    format,
    data,
    samples,
  ]);
  const riff = Buffer.alloc(8);
  riff.write('RIFF', 0, 'latin1');
  riff.writeUInt32LE(claims.riffBytes ?? content.length, 4);
  return Buffer.concat([riff, content]);
}

/** A WAV of so many bytes in all, at least 44, of random samples. */
export function wavOf(totalBytes: number): Buffer {
  return wav(randomBytes(totalBytes - 44));
}

/**
 * A FLAC of constant mono samples at 8 kHz, 16 bits, in frames of 4096, each frame with its right checksums.
 */
export function flac(frames: number): Buffer {
  const blockSamples = 4096;
  const info = Buffer.alloc(34);
  info.writeUInt16BE(blockSamples, 0);
  info.writeUInt16BE(blockSamples, 2);
  const totalSamples = BigInt(frames * blockSamples);
  info.writeBigUInt64BE((8000n << 44n) | (0n << 41n) | (15n << 36n) | totalSamples, 10);
  const parts: Buffer[] = [Buffer.from('fLaC'), Buffer.from([0x80, 0, 0, 34]), info];
  for (let frame = 0; frame < frames; frame++) parts.push(flacFrame(frame));
  return Buffer.concat(parts);
}

function flacFrame(frame: number): Buffer {
  // 4096 samples (code 12), 8 kHz (code 4), mono, 16 bits (code 4).
  const coded = frame < 128 ? [frame] : [0xc0 | (frame >> 6), 0x80 | (frame & 63)];
  const header = Buffer.from([0xff, 0xf8, 0xc4, 0x08, ...coded]);
  const content = Buffer.from([...header, crc(header, 8, 0x07), 0x00, frame & 255, 0x55]);
  const checksum = crc(content, 16, 0x8005);
  return Buffer.from([...content, checksum >> 8, checksum & 255]);
}

function crc(bytes: Buffer, width: 8 | 16, polynomial: number): number {
  const top = 1 << (width - 1);
  let register = 0;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      const carry = ((register & top) === 0 ? 0 : 1) ^ ((byte >> bit) & 1);
      register = ((register << 1) & (2 * top - 1)) ^ (carry === 1 ? polynomial : 0);
    }
  }
  return register;
}

/** An Ogg Opus stream of mono at 16 kHz: pages of one second each, the last one marked as such. */
export function oggOpus(seconds: number): Buffer {
  const opusHead = Buffer.alloc(19);
  opusHead.write('OpusHead', 0, 'latin1');
  opusHead.writeUInt8(1, 8);
  opusHead.writeUInt8(1, 9);
  opusHead.writeUInt16LE(312, 10);
  opusHead.writeUInt32LE(16_000, 12);
  const pages = [oggPage(opusHead, 0n, 2), oggPage(Buffer.from('OpusTags'), 0n, 0)];
  for (let second = 1; second <= seconds; second++) {
    const last = second === seconds ? 4 : 0;
    pages.push(oggPage(randomBytes(200), BigInt(second * 48_000 + 312), last));
  }
  return Buffer.concat(pages);
}

/** A page with one packet of at most 254 bytes. */
export function oggPage(packet: Buffer, position: bigint, flags: number, serial = 0): Buffer {
  const header = Buffer.alloc(28);
  header.write('OggS', 0, 'latin1');
  header.writeUInt8(flags, 5);
  header.writeBigUInt64LE(position, 6);
  header.writeUInt32LE(serial, 14);
  header.writeUInt8(1, 26);
  header.writeUInt8(packet.length, 27);
  return Buffer.concat([header, packet]);
}

/** An MP3 of frames of silence at 44.1 kHz stereo, 128 kbit/s: 417 bytes each. */
export function mp3(frames: number): Buffer {
  const frame = Buffer.alloc(417);
  frame.writeUInt32BE(0xfffb9000);
  return Buffer.concat(Array.from({ length: frames }, () => frame));
}
