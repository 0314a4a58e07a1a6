/** The recordings in test/fixtures/audio: as they are, changed, and served in the ways that hosts do in production. */

import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { type Handler, respond, serve } from './media-server.ts';
import { bytesOf } from './storage-bodies.ts';

/** A file of test/fixtures/audio. */
export function fixture(name: string): Buffer {
  return readFileSync(new URL(`../fixtures/audio/${name}`, import.meta.url));
}

/** A plain WAV whose sizes are right. */
export const BASE = fixture('base.wav');

/** Files of all other containers, each whole. `ffmpeg-pipe.wav` is not among them: its sizes are unknown. */
export const CONTAINER_FILES = [
  'rf64.wav',
  'wave64.w64',
  'gsm610.wav',
  'amr-nb.amr',
  'm4a.m4a',
  'aac.3gp',
  'plain.mp3',
  'opus.ogg',
  'flac-pipe.flac',
] as const;

/** What may have happened to a file before it is served. */
export interface Mutation {
  /** Positions of bytes that are others, and those. */
  readonly flips: readonly (readonly [at: number, byte: number])[];
  /** The share of it that is left, from its beginning. */
  readonly keep: number;
  /** So many bytes of something else behind it. */
  readonly behind: number;
}

/** The bytes of a file to which that has happened. */
export function mutate(file: Buffer, { flips, keep, behind }: Mutation): Buffer {
  const changed = Buffer.from(file);
  for (const [at, byte] of flips) changed[at] = byte;
  return Buffer.concat([changed.subarray(0, Math.floor(keep * file.length)), bytesOf(behind, behind)]);
}

/** The ways in which a recording is served; all but `close` tell its end. */
export const FRAMINGS = [
  'length',
  'chunks',
  'close',
  'gzip',
  'a coding that is none',
  'a part that is all',
] as const;
export type Framing = (typeof FRAMINGS)[number];

/** @param breaks where downloads break off, one after the other. */
export function serveFramed(framing: Framing, bytes: Buffer, breaks: readonly number[]): Handler {
  const broken = { breaks: [...new Set(breaks)].filter((at) => at < bytes.length), breakBy: 'end' } as const;
  switch (framing) {
    case 'gzip':
      return respond(200, gzipSync(bytes), { 'content-encoding': 'gzip' });
    case 'a coding that is none':
      return respond(200, bytes, { 'content-encoding': 'gzip, binary' });
    case 'a part that is all':
      return respond(206, bytes, { 'content-range': `bytes 0-${bytes.length - 1}/${bytes.length}` });
    case 'chunks':
    case 'close':
      return serve(bytes, { framing, ...broken });
    case 'length':
      return serve(bytes, { framing, etag: '"v1"', ranges: true, ...broken });
  }
}
