import { creationTime } from '../domain/session.ts';
import { FILE_EXTENSIONS, makeAudio } from './audio/audio.ts';
import { type AudioSource, bufferSource, sha256OfSource } from './audio/source.ts';
import { copyOf, MEDIA_PREFIX } from './media-urls.ts';
import { seededRandom, seededUuid } from './seeded-values.ts';
import type {
  MediaFault,
  MetadataFault,
  RecordingSpec,
  Repeated,
  SessionSpec,
  TranscriptionSpec,
} from './spec.ts';

/** Where recordings of a session are, by Kore's paths. */
export interface MediaOwner {
  readonly accountId: string;
  readonly botId: string;
  /** Serves the recording from now on. */
  adopt(recording: SandboxRecording): void;
}

/** A session of the sandbox, with what has become of it. */
export class SandboxSession {
  readonly sessionId: string;
  readonly spec: SessionSpec;
  /** What still goes wrong with its metadata; more can be added at any time. */
  readonly faults: FaultSequence<MetadataFault>;
  /** When it was added, by the sandbox's clock. */
  readonly addedAtMs: number;
  readonly transcription: TranscriptionSpec;
  readonly #recordings: SandboxRecording[] = [];
  readonly #addedTexts: string[] = [];
  readonly #createdAt: Date;
  readonly #owner: MediaOwner;
  #polls = 0;

  constructor(sessionId: string, spec: SessionSpec, owner: MediaOwner, addedAtMs: number) {
    this.sessionId = sessionId;
    this.spec = spec;
    this.addedAtMs = addedAtMs;
    this.faults = new FaultSequence(spec.metadataFaults);
    this.transcription = transcriptionOf(spec.transcription);
    this.#createdAt = creationTime(sessionId) ?? new Date(addedAtMs);
    this.#owner = owner;
    for (const recording of spec.recordings ?? [{}]) this.addRecording(recording);
  }

  /** All of them, listed yet or not. The same array for as long as the session lives. */
  get recordings(): readonly SandboxRecording[] {
    return this.#recordings;
  }

  /** Adds a recording behind the others, from the next call on. */
  addRecording(spec: RecordingSpec = {}): SandboxRecording {
    const index = this.#recordings.length;
    const recording = new SandboxRecording(this.sessionId, index, spec, this.#owner, this.#createdAt);
    this.#recordings.push(recording);
    this.#owner.adopt(recording);
    return recording;
  }

  /** Adds a message behind those of the transcript, from the next call on. */
  addMessage(text: string): void {
    this.#addedTexts.push(text);
  }

  /**
   * The texts of the transcript's messages.
   * @param polls how many good calls there were before.
   * @param now by the sandbox's clock.
   */
  texts(polls: number, now: number): readonly string[] {
    const { texts, afterPolls = 0, afterMs = 0, later = [] } = this.transcription;
    const ready = polls >= afterPolls && now >= this.addedAtMs + afterMs;
    const due = later.filter((message) => polls >= message.afterPolls);
    return [...(ready ? texts : []), ...due.map(({ text }) => text), ...this.#addedTexts];
  }

  /** How many calls went well so far. */
  get polls(): number {
    return this.#polls;
  }

  /** Counts a call that goes well; returns how many there were before it. */
  countPoll(): number {
    return this.#polls++;
  }
}

/** A recording of the sandbox. */
export class SandboxRecording {
  readonly sessionId: string;
  /** Its position in the session. */
  readonly index: number;
  readonly spec: RecordingSpec;
  /** The path of all its URLs, unless that changes. */
  readonly path: string;
  /** What still goes wrong with its download; more can be added at any time. */
  readonly faults: FaultSequence<MediaFault>;
  readonly #lifetimes: number[];
  readonly #fileNames: string[];
  readonly #createdAt: Date;
  #version = 1;
  #copies = 0;
  #audio: AudioSource;

  constructor(sessionId: string, index: number, spec: RecordingSpec, owner: MediaOwner, createdAt: Date) {
    const extension = FILE_EXTENSIONS[spec.format ?? 'wav'];
    this.sessionId = sessionId;
    this.index = index;
    this.spec = spec;
    const usualName = `voicemail_${sessionId}${index === 0 ? '' : `_${index + 1}`}.${extension}`;
    const { fileName = usualName } = spec;
    this.#fileNames = typeof fileName === 'string' ? [fileName] : [...fileName];
    const [year = '', month = '', day = ''] = createdAt.toISOString().slice(0, 10).split('-');
    const file = `f-${seededUuid(`${sessionId} ${index}`)}.${extension}`;
    this.path =
      `${MEDIA_PREFIX}smartassistrecording/SANDBOX/${owner.accountId}/${owner.botId}` +
      `/${year}/${day}-${month}-${year}/${file}`;
    this.faults = new FaultSequence(spec.mediaFaults);
    const lifetimes = spec.lifetimeSeconds ?? [];
    this.#lifetimes = typeof lifetimes === 'number' ? [lifetimes] : [...lifetimes];
    this.#createdAt = createdAt;
    this.#audio = this.#make();
  }

  /** The bytes as they are served at present. */
  get audio(): AudioSource {
    return this.#audio;
  }

  /** SHA-256 of these bytes, in lowercase hex. */
  sha256(): string {
    return sha256OfSource(this.audio);
  }

  get etag(): string | undefined {
    const kind = this.spec.etag ?? 'strong';
    if (kind === 'none') return undefined;
    const tag = `"${seededUuid(`etag ${this.path} ${this.#version}`).slice(0, 18)}"`;
    return kind === 'weak' ? `W/${tag}` : tag;
  }

  get lastModified(): string | undefined {
    if (this.spec.lastModified === false) return undefined;
    // A minute for each version: HTTP dates have no fractions of a second.
    return new Date(this.#createdAt.getTime() + this.#version * 60_000).toUTCString();
  }

  /** From now on it is another recording under the same path. */
  replace(): void {
    this.#version += 1;
    this.#audio = this.#make();
  }

  /** How long the next URL is good for, where the recording has a mind of its own about that. */
  nextLifetimeSeconds(): number | undefined {
    return this.#lifetimes.length > 1 ? this.#lifetimes.shift() : this.#lifetimes[0];
  }

  /** Its name in the next answer. */
  nextFileName(): string | undefined {
    return this.#fileNames.length > 1 ? this.#fileNames.shift() : this.#fileNames[0];
  }

  /** The path of the next URL. */
  nextPath(): string {
    return this.spec.changingPath === true ? copyOf(this.path, ++this.#copies) : this.path;
  }

  #make(): AudioSource {
    const { content, seed = `${this.sessionId} ${this.index}`, format = 'wav' } = this.spec;
    if (Buffer.isBuffer(content)) return bufferSource(content);
    if (content !== undefined) return content;
    return makeAudio(format, this.#version === 1 ? seed : `${seed} version ${this.#version}`, this.spec);
  }
}

function transcriptionOf(spec: SessionSpec['transcription']): TranscriptionSpec {
  if (spec === undefined) return { texts: [] };
  if (typeof spec === 'string') return { texts: [spec] };
  return 'texts' in spec ? spec : { texts: spec };
}

/** Faults in the order in which they happen, each as often as it says. */
class FaultSequence<Fault extends Repeated> {
  readonly #left: { readonly fault: Fault; times: number }[] = [];

  constructor(faults: readonly Fault[] = []) {
    this.add(...faults);
  }

  /** Puts more faults behind those that are still to come. */
  add(...faults: readonly Fault[]): void {
    for (const fault of faults) {
      const times = fault.times ?? 1;
      if (times > 0) this.#left.push({ fault, times });
    }
  }

  /** Removes all that are still to come. */
  clear(): void {
    this.#left.length = 0;
  }

  /** Uses up the next one; `undefined` when all is well. */
  next(): Fault | undefined {
    const first = this.#left[0];
    if (first === undefined) return undefined;
    first.times -= 1;
    if (first.times <= 0) this.#left.shift();
    return first.fault;
  }
}

const TEXTS = [
  'Hi, this is a voicemail from the sandbox. Please call me back when you find the time.',
  'Good morning, I would like to move my appointment to Thursday afternoon. Thank you.',
  'Hello, my order has arrived, but one of the boxes is open. What should I do?',
  'This is a message for the billing department: the invoice came twice.',
  'Hi, just calling to say that everything works again. Great job!',
  'I have been waiting for the technician since ten. Is he on his way?',
] as const;

/** The voicemail of a session without a description: the same for the same id, mostly of one recording. */
export function autoSessionSpec(sessionId: string): SessionSpec {
  const random = seededRandom(`session ${sessionId}`);
  const count = random() < 0.2 ? 2 : 1;
  return {
    sessionId,
    recordings: Array.from({ length: count }, () => ({ seconds: 3 + Math.floor(random() * 10) })),
    transcription: TEXTS[Math.floor(random() * TEXTS.length)] ?? TEXTS[0],
  };
}
