/** MPEG-1, layer III, no CRC, 32 kbit/s, 32 kHz, mono: a frame is 144 bytes and 36 ms. */
const FRAME_HEADER = Buffer.from([0xff, 0xfb, 0x18, 0xc0]);
const FRAME_BYTES = 144;
const FRAME_SECONDS = 0.036;

/**
 * An MP3 file of silence behind an ID3v2.3 tag with the seed in its title. Side information of zeros means no
 * coded sound, so all the rest of a frame is ancillary: its last bytes hold the frame's number, so that no two
 * places in the file look the same.
 */
export function makeMp3(seed: string, seconds: number): Buffer {
  const frames = Array.from({ length: Math.max(1, Math.round(seconds / FRAME_SECONDS)) }, (_, number) => {
    const frame = Buffer.alloc(FRAME_BYTES);
    FRAME_HEADER.copy(frame);
    frame.writeUIntBE(number, FRAME_BYTES - 3, 3);
    return frame;
  });
  return Buffer.concat([id3Tag(`Voicemail ${seed}`), ...frames]);
}

/** https://id3.org/id3v2.3.0 */
function id3Tag(title: string): Buffer {
  // Encoding 1: UTF-16 with a byte order mark.
  const text = Buffer.concat([Buffer.from([0x01, 0xff, 0xfe]), Buffer.from(title, 'utf16le')]);
  const frame = Buffer.alloc(10);
  frame.write('TIT2', 0, 'latin1');
  frame.writeUInt32BE(text.length, 4);
  const size = frame.length + text.length;
  const sevenBitBytes = [21, 14, 7, 0].map((shift) => (size >> shift) & 0x7f);
  return Buffer.concat([Buffer.from('ID3'), Buffer.from([3, 0, 0, ...sevenBitBytes]), frame, text]);
}
