/** A file with the progress and the findings of a verification. It survives a killed process. */

import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { systemCode } from '../domain/errors.ts';
import { FINDING_KINDS, type Finding, NO_TOTALS, type Totals } from './findings.ts';
import type { Scope } from './scope.ts';
import type { Position } from './walk.ts';

/** A verification that can be resumed. */
export interface Checkpoint {
  /** The progress of an earlier run; `undefined` for a new verification. */
  readonly position: Position | undefined;
  readonly totals: Totals;
  /** The findings of earlier runs. */
  findings(): AsyncIterable<Finding>;
  /** Adds progress and findings. Findings are in the file when it returns; progress alone is written a little later. */
  add(findings: readonly Finding[], position: Position, totals: Totals): Promise<void>;
  /** Writes what is not written yet, and closes the file. */
  close(): Promise<void>;
  /** Removes the file: the verification is complete. */
  remove(): Promise<void>;
}

/** The file is no checkpoint of this verification; `message` says why. The file was not changed. */
export class CheckpointRefused extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'CheckpointRefused';
  }
}

/** 2: with partial sessions and suspect recordings; 3: with what is forged and unlisted. */
const VERSION = 3;
/** Positions without findings are written this often at most. */
const POSITION_INTERVAL_MS = 100;

/** No step is nearly as long; another kind of file must not fill the memory. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;
const FILE_MODE = 0o600;

const Count = z.int().nonnegative();
const Facts = z.object({
  bytes: z.exactOptional(z.number()),
  sha256: z.exactOptional(z.string()),
  container: z.exactOptional(z.string()),
  key: z.exactOptional(z.string()),
  sessionId: z.exactOptional(z.string()),
  botId: z.exactOptional(z.string()),
});
const FindingSchema = z.object({
  kind: z.enum(FINDING_KINDS),
  key: z.string(),
  sessionId: z.exactOptional(z.string()),
  botId: z.exactOptional(z.string()),
  what: z.string(),
  expected: z.exactOptional(Facts),
  found: z.exactOptional(Facts),
  repairable: z.boolean(),
});
const StepSchema = z.object({
  findings: z.array(FindingSchema),
  position: z.object({
    unit: z.string(),
    after: z.exactOptional(z.string()),
    ended: z.exactOptional(z.boolean()),
  }),
  totals: z.object({
    sessions: Count,
    objects: Count,
    bytes: Count,
    suspect: Count,
    findings: z.record(z.enum(FINDING_KINDS), Count),
  }),
});
/** The first line: what is verified. */
const HeaderSchema = z.object({ verify: z.literal(VERSION), archive: z.string(), scope: z.string() });
type Header = z.infer<typeof HeaderSchema>;

/**
 * Opens the checkpoint of a verification, or begins one.
 *
 * The file has one line for each step. A process that is killed while it writes leaves at most half a line, which is
 * ignored.
 *
 * @throws CheckpointRefused when the file belongs to another verification, or is something else.
 */
export async function openCheckpoint(path: string, archive: string, scope: Scope): Promise<Checkpoint> {
  const header: Header = { verify: VERSION, archive, scope: JSON.stringify(scope) };
  const before = await readSteps(path, header);
  if (!before) await begin(path, header);
  const bytesBefore = before?.bytes ?? (await sizeOf(path));
  const handle = await openToAppend(path, bytesBefore);
  let pending = '';
  let bytes = bytesBefore;
  let writtenAt = 0;

  async function flush(): Promise<void> {
    const line = pending;
    pending = '';
    if (line === '') return;
    if ((await handle.stat()).size !== bytes) {
      throw new Error(
        `another process writes to ${path}: wait until the other verification ends, or give each its own checkpoint`,
      );
    }
    await handle.appendFile(line);
    bytes += Buffer.byteLength(line);
    writtenAt = Date.now();
  }

  return {
    position: before?.position,
    totals: before?.totals ?? NO_TOTALS,
    findings: () => readFindings(path, bytesBefore),
    async add(findings, position, totals) {
      // What waited until now held no findings, and a later position makes it needless.
      pending = `${JSON.stringify({ findings, position, totals })}\n`;
      if (findings.length > 0 || Date.now() - writtenAt >= POSITION_INTERVAL_MS) await flush();
    },
    async close() {
      await flush();
      await handle.close();
    },
    async remove() {
      await rm(path, { force: true });
    },
  };
}

interface Steps {
  readonly position: Position | undefined;
  readonly totals: Totals;
  /** Of the lines that are whole. */
  readonly bytes: number;
}

/** What a file holds; `undefined` when there is none, or an empty one. */
async function readSteps(path: string, header: Header): Promise<Steps | undefined> {
  if ((await sizeOf(path)) === 0) return undefined;
  let steps: Steps | undefined;
  for await (const { text, end } of wholeLines(path)) {
    if (!steps) {
      assertSameVerification(path, HeaderSchema.safeParse(parseJson(text)).data, header);
      steps = { position: undefined, totals: NO_TOTALS, bytes: end };
    } else {
      const step = StepSchema.safeParse(parseJson(text)).data;
      if (!step) break;
      steps = { position: step.position, totals: step.totals, bytes: end };
    }
  }
  if (!steps) assertSameVerification(path, undefined, header);
  return steps;
}

/** The findings in the first bytes of the file, up to a limit. */
async function* readFindings(path: string, bytes: number): AsyncGenerator<Finding> {
  let isHeader = true;
  for await (const { text, end } of wholeLines(path)) {
    if (end > bytes) return;
    if (!isHeader) yield* StepSchema.parse(parseJson(text)).findings;
    isHeader = false;
  }
}

function assertSameVerification(path: string, known: Header | undefined, header: Header): void {
  if (!known) throw new CheckpointRefused(`${path} is no checkpoint of a verification: name another file`);
  if (known.archive !== header.archive) {
    throw new CheckpointRefused(
      `${path} belongs to a verification of ${known.archive}, not of ${header.archive}: name another file, or remove it`,
    );
  }
  if (known.scope !== header.scope) {
    throw new CheckpointRefused(
      `${path} belongs to a verification of other sessions or dates: ask for the same ones, name another file, or remove it`,
    );
  }
}

/** The lines of a file that have an end, each with the position behind it. */
async function* wholeLines(path: string): AsyncGenerator<{ readonly text: string; readonly end: number }> {
  // Put together once a line is whole: a long one comes in many chunks.
  let pieces: Buffer[] = [];
  let bytes = 0;
  let end = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let at = chunk.indexOf('\n'); at !== -1; at = chunk.indexOf('\n', start)) {
      const line = Buffer.concat([...pieces, chunk.subarray(start, at)]);
      end += line.length + 1;
      start = at + 1;
      pieces = [];
      bytes = 0;
      yield { text: line.toString(), end };
    }
    pieces.push(chunk.subarray(start));
    bytes += chunk.length - start;
    if (bytes > MAX_LINE_BYTES) return;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // which no schema takes
  }
}

/**
 * 0 for a file that is not there.
 * @throws CheckpointRefused for what is no file: a device must not be replaced by one.
 */
async function sizeOf(path: string): Promise<number> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw new CheckpointRefused(`${path} is no file: name another one`);
    return found.size;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 0;
    throw error;
  }
}

/** Makes the file in one step, so that there never is a half of its first line. */
async function begin(path: string, header: Header): Promise<void> {
  // Under a random name, so that it can't be a link that another user made.
  const temporary = `${path}.${randomUUID()}.tmp`;
  await writeFile(temporary, `${JSON.stringify(header)}\n`, { mode: FILE_MODE, flag: 'wx' });
  await rename(temporary, path);
}

async function openToAppend(path: string, bytes: number): Promise<FileHandle> {
  const handle = await open(path, 'a');
  // What is left of a line that was never finished.
  await handle.truncate(bytes);
  return handle;
}
