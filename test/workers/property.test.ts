/**
 * Whole sessions through a real worker, with real sockets, whatever has become of the bytes of recordings and of the
 * answers of Kore. `PROPERTY_RUNS` and `PROPERTY_SEED` set how many sessions, and which: see CONTRIBUTING.md.
 */

import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SessionView } from '../../src/domain/views.ts';
import { type ManifestRecording, parseManifest, parsePartialManifest } from '../../src/storage/documents.ts';
import { manifestKey, partialManifestKey } from '../../src/storage/layout.ts';
import { CONTAINER_FILES, FRAMINGS, fixture, mutate, serveFramed } from '../support/irregular-recordings.ts';
import { type Handler, type MediaServer, respond, startMediaServer } from '../support/media-server.ts';
import { openSetup, type Pipeline, type Setup } from '../support/pipeline.ts';
import { sha256 } from '../support/storage-bodies.ts';

const RUNS = Number(process.env.PROPERTY_RUNS ?? 200);
const SEED = Number(process.env.PROPERTY_SEED ?? 20_251_125);
/** Sessions at a time: most of them wait for something. */
const BATCH = 50;
const never = new AbortController().signal;

const BASE = 'base.wav';
const FILES = new Map([BASE, ...CONTAINER_FILES, 'ffmpeg-pipe.wav'].map((name) => [name, fixture(name)]));

const shares = fc.double({ min: 0, max: 1, noNaN: true });

/** What may have happened to a file before it is served, and how it is served. */
const recordings = fc.record({
  file: fc.constantFrom(...FILES.keys()),
  flips: fc.array(fc.tuple(fc.nat(127), fc.nat(255)), { maxLength: 4 }),
  keep: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: shares }),
  behind: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(100) }),
  framing: fc.constantFrom(...FRAMINGS),
  /** Where its first downloads break off. */
  breaks: fc.array(fc.nat(20_000), { maxLength: 2 }),
});

/** A change of Kore's answer, at a share of its length. */
const edits = fc.array(
  fc.tuple(
    fc.constantFrom('replace', 'insert', 'remove', 'end'),
    shares,
    // What JSON is made of, and anything else.
    fc.oneof(
      fc.constantFrom('{', '}', '[', ']', '"', ',', ':', '\\', 'null', '0', '1e999', '\u0000'),
      fc.integer({ min: 32, max: 126 }).map((code) => String.fromCharCode(code)),
    ),
  ),
  { maxLength: 3 },
);

const sessions = fc.record({
  parts: fc.array(recordings, { minLength: 1, maxLength: 3 }),
  edits,
  /** For how many answers Kore's are changed. */
  changed: fc.constantFrom(1, 2, Number.POSITIVE_INFINITY),
});
type Mutation = typeof sessions extends fc.Arbitrary<infer Value> ? Value : never;

interface Served {
  readonly url: string;
  readonly bytes: Buffer;
  readonly part: Mutation['parts'][number];
  readonly handler: Handler;
  requests: number;
}

let setup: Setup;
let pipeline: Pipeline;
let media: MediaServer;
let count = 0;
const served = new Map<string, Served>();
const seen: Record<string, number> = {};

beforeAll(async () => {
  [setup, media] = await Promise.all([openSetup('redis', 'file'), startMediaServer()]);
  pipeline = await setup.start({
    // What is wrong with a recording is not put right; what is wrong with Kore's answer may be.
    work: {
      concurrency: BATCH,
      recordingWaitMs: 500,
      sessionWaitMs: 500,
      transcriptWaitMs: 0,
    },
    kore: { rateLimit: { calls: 1_000_000, windowMs: 1_000 } },
  });
  media.handle(async (request, reply) => {
    const target = served.get(request.target.split('?', 1)[0] ?? '');
    if (!target) return respond(404)(request, reply);
    target.requests += 1;
    await target.handler(request, reply);
  });
});
afterAll(async () => {
  await pipeline.stop();
  await Promise.all([setup.close(), media.close()]);
});

it('a recording that arrived whole is archived with its hash, and nothing is called verified that was not', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(sessions, { minLength: BATCH, maxLength: BATCH }), async (batch) => {
      await Promise.all(batch.map(checkSession));
    }),
    // A failure names its session: to try smaller batches takes longer than to look at that.
    { numRuns: Math.ceil(RUNS / BATCH), seed: SEED, endOnFailure: true },
  );
  expect(seen.archived ?? 0, JSON.stringify(seen)).toBeGreaterThan(RUNS / 10);
  for (const state of ['verified', 'unverified', 'suspect']) {
    expect(seen[state] ?? 0, JSON.stringify(seen)).toBeGreaterThan(0);
  }
  console.info(`${RUNS} sessions: ${JSON.stringify(seen)}`);
}, 3_600_000);

async function checkSession(mutation: Mutation): Promise<void> {
  const number = count++;
  const targets = mutation.parts.map((part, index) => serving(part, number, index));
  for (const target of targets) served.set(new URL(target.url).pathname, target);
  const good = {
    status: 'success',
    'voicemail recording': targets.map(({ url }, index) => ({ fileName: `${index}.wav`, fileUrl: url })),
    transcriptions: [{ id: 'm-1', components: [{ cT: 'text', data: { text: `message ${number}` } }] }],
  };
  const body = changedText(JSON.stringify(good), mutation.edits);
  const sessionId = pipeline.sandbox.addSession({
    answer: () => good,
    metadataFaults: [{ body, times: mutation.changed }],
  });
  try {
    await pipeline.enqueue(sessionId);
    const ref = { sessionId, botId: pipeline.sandbox.botId };
    const ended = () =>
      pipeline.waitFor(
        sessionId,
        ({ state, error }) =>
          state === 'archived' ||
          state === 'failed' ||
          // It would wait for as long as an outage may last.
          (!isRightInTheEnd(mutation) && state === 'waiting' && error?.code.startsWith('KORE_') === true),
      );
    let view = await ended();
    // On a busy machine its time may be up before Kore's answer is right.
    while (isRightInTheEnd(mutation) && saysNotThere(view)) {
      await pipeline.operations.retry(ref);
      view = await ended();
    }
    await checkOutcome({ sessionId, view, targets, mutation });
    if (view.state === 'waiting') await pipeline.operations.cancel(ref);
  } catch (error) {
    throw new Error(`session ${number}: ${JSON.stringify({ ...mutation, body })}`, { cause: error });
  } finally {
    for (const { url } of targets) served.delete(new URL(url).pathname);
  }
}

/** Whether it failed for what Kore said of it. */
function saysNotThere({ state, error, missing = [] }: SessionView): boolean {
  const codes = [error?.code, ...missing.map(({ code }) => code)];
  return (
    state === 'failed' &&
    codes.some((code) => /^(SESSION_NOT_FOUND|RECORDING_NOT_READY|RECORDING_UNAVAILABLE)$/.test(code ?? ''))
  );
}

function fileOf({ file }: Mutation['parts'][number]): Buffer {
  return FILES.get(file) ?? Buffer.alloc(0);
}

/** One recording, as the media server has it. */
function serving(part: Mutation['parts'][number], number: number, index: number): Served {
  const bytes = mutate(fileOf(part), part);
  return {
    url: `${media.origin}/${number}/${index}?s=signature`,
    bytes,
    part,
    handler: serveFramed(part.framing, bytes, part.breaks),
    requests: 0,
  };
}

function changedText(text: string, changes: Mutation['edits']): string {
  return changes.reduce((before, [kind, share, what]) => {
    const at = Math.floor(share * before.length);
    if (kind === 'end') return before.slice(0, at);
    return (
      before.slice(0, at) + (kind === 'remove' ? '' : what) + before.slice(kind === 'insert' ? at : at + 1)
    );
  }, text);
}

interface Outcome {
  readonly sessionId: string;
  readonly view: SessionView;
  readonly targets: readonly Served[];
  readonly mutation: Mutation;
}

async function checkOutcome({ sessionId, view, targets, mutation }: Outcome): Promise<void> {
  const ref = { botId: pipeline.sandbox.botId, sessionId };
  const { store } = setup.archive;
  const whole = await store.read(manifestKey(ref), never);
  const part = await store.read(partialManifestKey(ref), never);
  const partial = part && !whole ? parsePartialManifest(part, 'partial') : undefined;
  const entries: readonly ManifestRecording[] =
    (whole ? parseManifest(whole, 'manifest') : partial)?.recordings ?? [];
  note(whole ? 'archived' : partial ? 'partial' : 'failed');
  if (view.state !== 'waiting') expect(view.state).toBe(whole ? 'archived' : 'failed');
  expect(view.error?.code).not.toBe('INTERNAL');
  if (view.state !== 'waiting') {
    expect(view.recordings?.map((one) => one.sha256) ?? []).toEqual(entries.map((one) => one.sha256));
  }

  for (const entry of entries) {
    const bytes = await pipeline.read(entry.key);
    expect(sha256(bytes)).toBe(entry.sha256);
    const state = entry.integrity?.state ?? 'none';
    note(state);
    const target = targets.find((one) => one.bytes.equals(bytes));
    // Where nothing tells the end, the same cut twice may pass for all there is, but never for verified.
    const mayBeCut = targets.some(
      (one) => one.part.framing === 'close' && one.bytes.subarray(0, bytes.length).equals(bytes),
    );
    if (state === 'verified' || !mayBeCut) expect(target, `${state}: not what was served`).toBeDefined();
    const isCutWav = target?.part.file === BASE && isCut(target) && target.part.flips.length === 0;
    if (isCutWav) expect(state).toBe('suspect');
  }
  // Where Kore's answer was right in the end, everything arrived.
  const isRight = isRightInTheEnd(mutation);
  const codes = [
    ...(partial?.missing.map(({ code }) => code) ?? []),
    ...(view.error ? [view.error.code] : []),
  ];
  for (const target of targets) {
    if (!isRight && !hasArrived(target)) continue;
    if (entries.some(({ sha256: hash }) => hash === sha256(target.bytes))) continue;
    // It was cut twice at the same place, and nothing revealed it.
    if (target.part.framing === 'close' && entries.some(({ integrity }) => integrity?.state !== 'verified'))
      continue;
    // There is nothing of it, or it is text.
    // Where nothing at all was saved, one code stands for all of its recordings.
    const code = partial && target.bytes.length > 0 ? /_NOT_AUDIO$/ : /_EMPTY$|_NOT_AUDIO$/;
    expect(codes, target.url).toContainEqual(expect.stringMatching(code));
  }
}

/** Whether Kore's answer is good at some time. */
function isRightInTheEnd({ changed, edits: changes }: Mutation): boolean {
  return changed !== Number.POSITIVE_INFINITY || changes.length === 0;
}

/** Whether it was sent from its first byte to its last, and the end was marked. */
function hasArrived({ part, requests }: Served): boolean {
  return part.framing !== 'close' && requests > part.breaks.length;
}

function isCut({ bytes, part }: Served): boolean {
  return part.behind === 0 && bytes.length < fileOf(part).length;
}

function note(what: string): void {
  seen[what] = (seen[what] ?? 0) + 1;
}
