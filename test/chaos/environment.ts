/** What a chaos run happens in: servers, a bucket behind a proxy that spoils requests, a stand-in for Kore, workers. */

import { createHash, randomUUID } from 'node:crypto';
import { createArchiver } from '../../src/library/create-archiver.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import type { RecordingSpec, SessionSpec } from '../../src/sandbox/spec.ts';
import { startPostgres } from '../setup/postgres.ts';
import { createLastingRedis } from '../setup/redis.ts';
import { type RunningCli, startCli } from '../support/cli.ts';
import type { Random } from '../support/random.ts';
import { openTestBucket, type TestBucket } from '../support/s3.ts';
import { type InjectedFault, type SeenRequest, startS3Proxy } from '../support/s3-proxy.ts';

/** Which queue a run works on. */
export type ChaosQueue = 'redis' | 'postgres';

/** What a session of the run is made of, as its archive is checked against. */
export interface Truth {
  readonly sessionId: string;
  /** SHA-256 of each recording, in hex. */
  readonly recordings: readonly string[];
  readonly texts: readonly string[];
}

/** A queue server that can be stopped and started again with its data. */
export interface QueueServer {
  readonly url: string;
  /** Ends it without warning and starts it again; `undefined` where that is not possible. */
  readonly restart: (() => Promise<void>) | undefined;
  close(): Promise<void>;
}

/** Everything of one run. */
export interface World {
  readonly queue: QueueServer;
  readonly bucket: TestBucket;
  readonly sandbox: Sandbox;
  readonly archiver: ReturnType<typeof createArchiver>;
  readonly truths: ReadonlyMap<string, Truth>;
  readonly workers: readonly ChaosWorker[];
  /** Decides what happens to requests to the bucket from now on. */
  spoilBucket(decide: ((request: SeenRequest) => InjectedFault | undefined) | undefined): void;
  close(): Promise<void>;
}

/** One worker process, with all the processes that took its place. */
export class ChaosWorker {
  readonly #env: Readonly<Record<string, string>>;
  readonly #logs: string[] = [];
  #cli: RunningCli;

  constructor(env: Readonly<Record<string, string>>) {
    this.#env = env;
    this.#cli = startCli(['worker'], { env });
  }

  /** All it ever wrote. */
  get logs(): string {
    return [...this.#logs, this.#cli.stdout, this.#cli.stderr].join('\n');
  }

  signal(signal: NodeJS.Signals): void {
    this.#cli.kill(signal);
  }

  /** Ends it and starts another in its place. @returns the exit code. */
  async replace(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    const code = await this.end(signal);
    this.#cli = startCli(['worker'], { env: this.#env });
    return code;
  }

  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    this.#cli.kill('SIGCONT');
    this.#cli.kill(signal);
    const { code, stdout, stderr } = await this.#cli.ended;
    this.#logs.push(stdout, stderr);
    return code;
  }
}

/** Builds it. Everything random comes from `random`, so that a seed gives the same world. */
export async function openWorld(
  random: Random,
  options: {
    readonly queue: ChaosQueue;
    readonly sessions: number;
    readonly workers: number;
    readonly mayBeSilent: boolean;
  },
): Promise<World> {
  const queue = await openQueue(options.queue);
  const bucket = await openTestBucket();
  let decide: ((request: SeenRequest) => InjectedFault | undefined) | undefined;
  const proxy = await startS3Proxy(bucket.endpoint, (request) => decide?.(request));
  const sandbox = await startSandbox({ mediaHost: 'localhost', urlLifetimeSeconds: 20 });
  const truths = new Map<string, Truth>();
  for (let index = 0; index < options.sessions; index += 1) {
    const truth = addSession(sandbox, random, options.mayBeSilent);
    truths.set(truth.sessionId, truth);
  }
  const queueName = `chaos-${randomUUID()}`;
  const env = {
    KORE_HOST: sandbox.url,
    KORE_BOT_ID: sandbox.botId,
    KORE_CLIENT_ID: sandbox.clientId,
    KORE_CLIENT_SECRET: sandbox.clientSecret,
    KORE_ALLOW_PRIVATE_MEDIA: 'true',
    KORE_RATE_LIMIT: '10000/1s',
    QUEUE_URL: queue.url,
    QUEUE_NAME: queueName,
    ARCHIVE_URL: `s3://${bucket.bucket}/chaos`,
    AWS_ENDPOINT_URL_S3: proxy.endpoint,
    AWS_REGION: bucket.region,
    AWS_ACCESS_KEY_ID: bucket.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: bucket.credentials.secretAccessKey,
    S3_FORCE_PATH_STYLE: 'true',
    HTTP_PORT: '0',
    POLL_DELAY: '200ms',
    RETRY_DELAY: '100ms',
    SETTLE_WAIT: '1s',
    // Longer than the lock of a killed worker and a limit of Kore's without a `Retry-After` (60 s) last together, with
    // looks after them: a transcript given up for such a thing is no loss.
    TRANSCRIPT_WAIT: '150s',
    UNAUTHORIZED_PAUSE: '500ms',
    DOWNLOAD_IDLE_TIMEOUT: '2s',
    SHUTDOWN_GRACE: '5s',
    LOG_LEVEL: 'info',
  };
  const workers = Array.from({ length: options.workers }, () => new ChaosWorker(env));
  const archiver = createArchiver({ queueUrl: queue.url, queueName, botId: sandbox.botId, timeoutMs: 5_000 });
  return {
    queue,
    bucket,
    sandbox,
    archiver,
    truths,
    workers,
    spoilBucket(next) {
      decide = next;
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.end('SIGKILL')));
      await archiver.close();
      await Promise.all([sandbox.close(), proxy.close(), queue.close()]);
      await bucket.close();
    },
  };
}

async function openQueue(kind: ChaosQueue): Promise<QueueServer> {
  if (kind === 'postgres') {
    const postgres = await startPostgres();
    if (!postgres) throw new Error('install PostgreSQL (Debian: apt-get install postgresql)');
    return { url: postgres.url, restart: undefined, close: postgres.stop };
  }
  const redis = await createLastingRedis();
  await redis.start();
  return {
    url: redis.url,
    async restart() {
      await redis.stop('SIGKILL');
      await redis.start();
    },
    async close() {
      await redis.stop('SIGKILL');
      await redis.remove();
    },
  };
}

/** Adds a session with up to three recordings and faults of its own. */
function addSession(sandbox: Sandbox, random: Random, mayBeSilent: boolean): Truth {
  const recordings: RecordingSpec[] = [];
  const hashes: string[] = [];
  for (let left = 1 + random.below(3); left > 0; left -= 1) {
    const content = wav(random, 2_000 + random.below(200_000));
    hashes.push(createHash('sha256').update(content).digest('hex'));
    recordings.push({
      content,
      contentType: 'audio/wav',
      fileName: `vm-${hashes.length}.wav`,
      ...recordingFaults(random),
    });
  }
  const texts = !mayBeSilent || random.chance(0.7) ? [`chaos-transcript-${random.below(1_000_000)}`] : [];
  const spec: SessionSpec = {
    recordings,
    ...sessionFaults(random),
    transcription: { texts, afterPolls: random.below(3) },
  };
  return { sessionId: sandbox.addSession(spec), recordings: hashes, texts };
}

function recordingFaults(random: Random): Pick<RecordingSpec, 'mediaFaults' | 'framing' | 'lifetimeSeconds'> {
  const faults = [
    { breakAfterBytes: 1_000 },
    { status: 503 },
    { page: 'html' },
    { shortBy: Number.POSITIVE_INFINITY },
    { shortBy: 1_000 },
    { expireNow: true },
    { breakAfterBytes: 1_000, breakBy: 'reset' },
    { status: 404 },
    { headers: { 'content-encoding': 'binary' } },
    { alwaysPartial: true },
    { replaced: false, ignoreRange: true },
  ] as const;
  return {
    mediaFaults: Array.from({ length: random.below(3) }, () => random.pick(faults)),
    ...(random.chance(0.2) && { framing: random.pick(['chunked', 'close'] as const) }),
    ...(random.chance(0.2) && { lifetimeSeconds: [-5, 20] }),
  };
}

function sessionFaults(random: Random): Pick<SessionSpec, 'metadataFaults' | 'statuses' | 'notReadyPolls'> {
  const faults = [
    { status: 503 },
    { status: 404 },
    { limit: '429-seconds' },
    { page: 'html', status: 404 },
    { page: 'html' },
    { dropConnection: true },
    { cutJson: true },
    { breakAfterBytes: 20 },
  ] as const;
  return {
    metadataFaults: Array.from({ length: random.below(3) }, () => random.pick(faults)),
    statuses: random.pick([['success'], ['call_in_progress', 'success'], ['media_unavailable', 'success']]),
    notReadyPolls: random.below(2),
  };
}

/** A WAV file with noise in it. */
function wav(random: Random, samples: number): Buffer {
  const header = Buffer.alloc(44);
  header.write('RIFF', 0);
  header.writeUInt32LE(36 + 2 * samples, 4);
  header.write('WAVEfmt ', 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(8_000, 24);
  header.writeUInt32LE(16_000, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write('data', 36);
  header.writeUInt32LE(2 * samples, 40);
  return Buffer.concat([header, random.bytes(2 * samples)]);
}
