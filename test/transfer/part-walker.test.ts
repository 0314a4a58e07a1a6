import { describe, expect, it } from 'vitest';
import { createInspector } from '../../src/transfer/audio/inspector.ts';
import { MAX_HEADER_BYTES, PartWalker } from '../../src/transfer/audio/part-walker.ts';

/** Parts that begin with their length in 2 bytes. */
function walk(file: Buffer, pieceBytes: number) {
  const starts: number[] = [];
  const walker = new PartWalker(0, 2, (header, at) => {
    starts.push(at);
    return { bytes: header.readUInt16BE(0) };
  });
  for (let at = 0; at < file.length; at += pieceBytes) walker.add(file.subarray(at, at + pieceBytes));
  return { starts, nextAt: walker.nextAt, stopped: walker.stopped };
}

function part(bytes: number): Buffer {
  const content = Buffer.alloc(bytes);
  content.writeUInt16BE(bytes);
  return content;
}

describe.each([1, 2, 3, 1000])('a walk in pieces of %i bytes', (pieceBytes) => {
  it('a walk in pieces reads each part once', () => {
    const file = Buffer.concat([part(2), part(7), part(300), part(2)]);
    expect(walk(file, pieceBytes)).toEqual({ starts: [0, 2, 9, 309], nextAt: 311, stopped: false });
  });

  it('a walk in pieces knows where the next part would begin, though the file ends before', () => {
    expect(walk(Buffer.concat([part(7), part(300).subarray(0, 4)]), pieceBytes)).toMatchObject({
      nextAt: 307,
      stopped: false,
    });
    expect(walk(Buffer.concat([part(7), Buffer.alloc(1)]), pieceBytes)).toMatchObject({
      starts: [0],
      nextAt: 7,
    });
  });

  it('a walk in pieces stops at a part that is shorter than its own header', () => {
    const file = Buffer.concat([part(7), Buffer.from([0, 1]), part(7)]);
    expect(walk(file, pieceBytes)).toEqual({ starts: [0, 7], nextAt: 7, stopped: true });
  });

  it('a walk in pieces passes on as much of a part as is requested', () => {
    const asked: number[] = [];
    const walker = new PartWalker(3, 2, (header) => {
      asked.push(header.length);
      if (header.length < 2000) return { need: header.length * 1000 };
      expect(header.subarray(1990)).toEqual(Buffer.alloc(10, 9));
      return { bytes: 2000 };
    });
    const file = Buffer.concat([Buffer.alloc(3), Buffer.alloc(2000, 9)]);
    for (let at = 0; at < file.length; at += pieceBytes) walker.add(file.subarray(at, at + pieceBytes));
    expect([asked, walker.nextAt, walker.stopped]).toEqual([[2, 2000], 2003, false]);
  });

  it('a walk in pieces stops where more is requested than is ever kept', () => {
    const walker = new PartWalker(0, 1, (header) => ({ need: header.length + MAX_HEADER_BYTES }));
    const file = Buffer.alloc(3 * MAX_HEADER_BYTES);
    for (let at = 0; at < file.length; at += pieceBytes) walker.add(file.subarray(at, at + pieceBytes));
    expect([walker.nextAt, walker.stopped]).toEqual([0, true]);
  });
});

describe('work grows with the bytes alone', () => {
  it.each([1000, 2000, 4000])(
    'the work grows with the bytes alone: %i parts are read that often',
    (count) => {
      const file = Buffer.concat(Array.from({ length: count }, () => part(2)));
      for (const pieceBytes of [1, 3, file.length]) expect(walk(file, pieceBytes).starts).toHaveLength(count);
    },
  );

  it('the work grows with the bytes alone for a FLAC whose end is full of headers of its last frame', () => {
    // Each of them is a good header that reaches the last sample, so each could be the last frame's.
    const info = Buffer.alloc(34);
    info.writeUInt16BE(4096, 0);
    info.writeUInt16BE(4096, 2);
    info.writeBigUInt64BE((8000n << 44n) | (15n << 36n) | 4096n, 10);
    const header = Buffer.from([0xff, 0xf8, 0xc4, 0x08, 0x00]);
    let crc = 0;
    for (const byte of header) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x80 ? 0x07 : 0)) & 0xff;
    }
    const frames = Buffer.concat(Array.from({ length: 20_000 }, () => Buffer.from([...header, crc])));
    const inspector = createInspector(undefined);
    inspector.add(Buffer.concat([Buffer.from('fLaC'), Buffer.from([0x80, 0, 0, 34]), info, frames]));
    const before = process.cpuUsage();
    expect(inspector.conclude()?.end).not.toBe('confirmed');
    const hostile = process.cpuUsage(before).user;
    // A thousand times the work of one pass over the same bytes would be no bound.
    const reference = process.cpuUsage();
    for (let pass = 0; pass < 1000; pass++)
      frames.subarray(-MAX_HEADER_BYTES).reduce((sum, byte) => sum ^ byte, 0);
    expect(hostile).toBeLessThan(process.cpuUsage(reference).user);
  });
});
