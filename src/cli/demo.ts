import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MultiBar, Presets } from 'cli-progress';
import { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import type { SessionView } from '../domain/views.ts';
import type { Runtime } from '../runtime.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { SessionSpec } from '../sandbox/spec.ts';
import { makeDirectories } from '../storage/fs/directories.ts';
import { createLogger } from '../util/log.ts';
import { type CliContext, CommandFailed } from './context.ts';

/** How often the display reads the sessions. */
const POLL_INTERVAL_MS = 150;
/** A demo that takes longer than this has failed; on a slow machine it takes a fifth of that. */
const GIVE_UP_AFTER_MS = 180_000;

/** One session of the demo: what happens to it, in words, and how the sandbox is to behave. */
interface Scene {
  readonly title: string;
  readonly spec: SessionSpec;
}

const SCENES: readonly Scene[] = [
  {
    title: 'an ordinary voicemail',
    spec: {
      recordings: [{ seconds: 6 }],
      transcription: 'Hello, this is Ada. Please call me back about my order.',
    },
  },
  { title: 'not ready the first two times', spec: { notReadyPolls: 2, transcription: 'It took a while.' } },
  {
    title: 'requested while the call was still going on',
    spec: { statuses: ['call_in_progress', 'media_in_progress', 'success'], transcription: 'Just a moment.' },
  },
  {
    title: 'a URL that had expired twice before it could be used',
    spec: {
      recordings: [{ seconds: 4, lifetimeSeconds: [-10, -10, 300] }],
      transcription: 'In time after all.',
    },
  },
  {
    title: 'a long one whose download is cut three times',
    spec: {
      recordings: [{ bytes: 6_000_000, mediaFaults: [{ breakAfterBytes: 1_500_000, times: 3 }] }],
      transcription: 'A long message.',
    },
  },
  {
    title: 'three recordings, two of them with the same name',
    spec: {
      recordings: [
        { seconds: 3, fileName: 'voicemail.wav' },
        { seconds: 4, fileName: 'voicemail.wav' },
        { seconds: 2, fileName: 'greeting.wav' },
      ],
      transcription: ['First message.', 'Second message.'],
    },
  },
  {
    title: 'a transcript that comes late',
    spec: { transcription: { texts: ['Transcribed a little later.'], afterPolls: 2 } },
  },
  { title: 'no transcript at all', spec: { recordings: [{ seconds: 2 }] } },
  {
    title: 'Kore unavailable for a moment, then over its rate limit (503, 429)',
    spec: {
      metadataFaults: [{ status: 503 }, { limit: '429-seconds' }],
      transcription: 'Worth waiting for.',
    },
  },
  {
    title: 'a cut-off answer, then a dropped connection',
    spec: {
      metadataFaults: [{ cutJson: true }, { dropConnection: true }],
      transcription: 'Third time lucky.',
    },
  },
  {
    title: 'FLAC instead of WAV',
    spec: { recordings: [{ format: 'flac', seconds: 3 }], transcription: 'Lossless.' },
  },
  {
    title: 'a hostile file name',
    spec: { recordings: [{ seconds: 2, fileName: '../../etc/passwd' }], transcription: 'Nice try.' },
  },
];

/** `demo`: sandbox, embedded queue and file archive in one process. */
export function demoCommand(context: CliContext): Command {
  return new Command('demo')
    .description(
      'Archive a dozen made-up voicemails, without any server, key or account, and show what came of it',
    )
    .option('--dir <directory>', 'where the archive goes, in a folder of its own per run', 'demo-archive')
    .addHelpText('after', '\nExample:\n  $ voicemail-archiver demo\n')
    .action(async (options: { dir: string }) => {
      if (!(await runDemo(options.dir, context.stopSignal()))) process.exitCode = 1;
    });
}

/** @returns whether every session was archived. */
async function runDemo(directory: string, signal: AbortSignal): Promise<boolean> {
  // Loaded here, as other commands need not wait for it.
  const [{ openRuntime }, { startSandbox }] = await Promise.all([
    import('../runtime.ts'),
    import('../sandbox/sandbox.ts'),
  ]);
  const started = new Date();
  const archive = resolve(directory, started.toISOString().slice(0, 19).replaceAll(':', '-'));
  try {
    await makeDirectories(archive);
  } catch (error) {
    throw new CommandFailed(
      `cannot write to ${archive}: ${(error as Error).message}; choose another place with --dir`,
      { cause: error },
    );
  }
  const queue = await mkdtemp(join(tmpdir(), 'voicemail-demo-'));
  const sandbox = await startSandbox();
  say('A stand-in for Kore.ai, an embedded queue and a file archive are being set up (a few seconds) ...');
  try {
    const { config, kore } = demoConfig(sandbox, queue, archive);
    const runtime = await openRuntime(config, createLogger('silent'));
    const worker = await runtime.startWorker(kore);
    let views: SessionView[];
    try {
      views = await archiveScenes(sandbox, runtime, signal);
    } finally {
      await worker.stop();
      await runtime.close();
    }
    return await showResults(views, archive, started);
  } catch (error) {
    if (signal.aborted) throw new CommandFailed(`interrupted; what was archived by then is in ${archive}`);
    throw error;
  } finally {
    await sandbox.close();
    await rm(queue, { recursive: true, force: true });
  }
}

function demoConfig(sandbox: Sandbox, queue: string, archive: string) {
  const config = loadConfig(
    {
      KORE_HOST: sandbox.url,
      KORE_BOT_ID: sandbox.botId,
      KORE_CLIENT_ID: sandbox.clientId,
      KORE_CLIENT_SECRET: sandbox.clientSecret,
      KORE_MEDIA_HOSTS: '127.0.0.1',
      KORE_ALLOW_PRIVATE_MEDIA: 'true',
      QUEUE_URL: `embedded:${queue}`,
      ARCHIVE_URL: `file:${archive}`,
      POLL_DELAY: '700ms',
      RETRY_DELAY: '500ms',
      TRANSCRIPT_WAIT: '6s',
    },
    { needs: ['kore'] },
  );
  if (!config.kore) throw new Error('the configuration has no Kore');
  return { config, kore: config.kore };
}

/** Queues the scenes and shows how they go, until all of them have ended. */
async function archiveScenes(
  sandbox: Sandbox,
  runtime: Runtime,
  signal: AbortSignal,
): Promise<SessionView[]> {
  const titles = new Map(SCENES.map(({ title, spec }) => [sandbox.addSession(spec), title]));
  const sessions = [...titles.keys()].map((sessionId) => ({ sessionId, botId: sandbox.botId }));
  await runtime.operations.enqueue(sessions);
  say(`${sessions.length} sessions are queued.\n`);

  const display = new Display(titles.size);
  const giveUpAt = Date.now() + GIVE_UP_AFTER_MS;
  try {
    for (;;) {
      const views = await Promise.all(sessions.map((session) => runtime.operations.view(session)));
      const known = views.filter((view) => view !== undefined);
      for (const view of known) display.show(view, titles.get(view.sessionId) ?? '');
      if (known.every(hasEnded) || Date.now() > giveUpAt) return known;
      await sleep(POLL_INTERVAL_MS, undefined, { signal });
    }
  } finally {
    display.end();
  }
}

function hasEnded(view: SessionView): boolean {
  return view.state === 'failed' || (view.state === 'archived' && view.transcript !== 'pending');
}

/** A line for whatever happens to a session, and on a terminal a progress bar below. */
class Display {
  readonly #shown = new Map<string, string>();
  readonly #archived = new Set<string>();
  readonly #bars: MultiBar | undefined;
  readonly #bar: ReturnType<MultiBar['create']> | undefined;

  constructor(sessions: number) {
    if (!process.stderr.isTTY) return;
    this.#bars = new MultiBar(
      { stream: process.stderr, format: 'Archiving {bar} {value}/{total} sessions', hideCursor: true },
      Presets.shades_classic,
    );
    this.#bar = this.#bars.create(sessions, 0);
  }

  show(view: SessionView, title: string): void {
    const progress = recordingLine(view);
    if (progress === undefined || this.#shown.get(view.sessionId) === progress) return;
    this.#shown.set(view.sessionId, progress);
    if (view.state === 'archived') this.#archived.add(view.sessionId);
    const line = `  ${title}: ${progress}`;
    if (this.#bars) this.#bars.log(`${line}\n`);
    else say(line);
    this.#bar?.update(this.#archived.size);
  }

  end(): void {
    this.#bars?.stop();
  }
}

/** What is worth saying of a session now. */
function recordingLine({ state, error, transcript, recordings = [] }: SessionView): string | undefined {
  if (state === 'waiting') return `${error?.message ?? 'waits'} [${error?.code ?? ''}], will try again`;
  if (state === 'failed') return `FAILED: ${error?.message ?? ''} [${error?.code ?? ''}]`;
  if (state !== 'archived') return undefined;
  const what = `${recordings.length} ${recordings.length === 1 ? 'recording' : 'recordings'}`;
  switch (transcript) {
    case 'pending':
      return `archived ${what}, still waiting for the transcript`;
    case 'absent':
      return `archived ${what}; there is no transcript`;
    default:
      return `archived ${what} and the transcript`;
  }
}

/** Shows what was archived. */
async function showResults(views: readonly SessionView[], archive: string, started: Date): Promise<boolean> {
  const archived = views.filter((view) => view.state === 'archived');
  const shown = relative(process.cwd(), archive);
  print(`\nWhat is in the archive now:\n\n${shown}/`);
  await printTree(archive, '');
  const [first] = archived;
  if (first?.manifestKey) {
    const directory = join(archive, first.manifestKey, '..');
    const transcript = JSON.parse(await readFile(join(directory, 'transcript.json'), 'utf8')) as {
      text: string;
    };
    print(`\nThe transcript of the first one says:\n\n  "${transcript.text}"`);
    print('\nWhere to look next:\n');
    print(
      `  the recording to play    ${relative(process.cwd(), join(archive, first.recordings?.[0]?.key ?? ''))}`,
    );
    print(`  what is known of it      ${relative(process.cwd(), join(archive, first.manifestKey))}`);
    print('  run it for real          README.md, "In production"');
  }
  const seconds = ((Date.now() - started.getTime()) / 1000).toFixed(0);
  print(`\n${archived.length} of ${SCENES.length} sessions archived in ${seconds} s.`);
  return archived.length === SCENES.length;
}

async function printTree(directory: string, indent: string): Promise<void> {
  const entries = (await readdir(directory, { withFileTypes: true })).sort((a, b) =>
    a.name.localeCompare(b.name),
  );
  for (const [index, entry] of entries.entries()) {
    const isLast = index === entries.length - 1;
    const path = join(directory, entry.name);
    const size = entry.isFile() ? `  ${kilobytes((await stat(path)).size)}` : '/';
    print(`${indent}${isLast ? '└─ ' : '├─ '}${entry.name}${size}`);
    if (entry.isDirectory()) await printTree(path, `${indent}${isLast ? '   ' : '│  '}`);
  }
}

function kilobytes(bytes: number): string {
  return `${Math.max(1, Math.round(bytes / 1000)).toLocaleString('en')} kB`;
}

/** Results go to stdout. */
function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** What is going on goes to stderr. */
function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
