/** Versions 2.2 to 2.4: https://id3.org/id3v2.4.0-structure (section 3.1), and its forerunners. */
const VERSIONS = [2, 3, 4];
const HEADER_BYTES = 10;
const FOOTER_BYTES = 10;
const HAS_FOOTER = 0x10;

/** The whole length of the ID3v2 tag that a body begins with; 0 where it begins with none. */
export function id3Length(head: Buffer): number {
  if (head.length < HEADER_BYTES || head.toString('latin1', 0, 3) !== 'ID3') return 0;
  const sizes = head.subarray(6, HEADER_BYTES);
  const valid =
    VERSIONS.includes(head.readUInt8(3)) && head.readUInt8(4) < 0xff && sizes.every((byte) => byte < 0x80);
  if (!valid) return 0;
  // Its four size bytes hold 7 bits each.
  const size = sizes.reduce((sum, byte) => sum * 128 + byte, 0);
  return HEADER_BYTES + size + ((head.readUInt8(5) & HAS_FOOTER) === 0 ? 0 : FOOTER_BYTES);
}
