import { open } from 'node:fs/promises';
import { Argument, Command } from 'commander';
import { type EnqueueRequest, LARGE_LIST } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import type { Connection } from './connect.ts';
import { type CliContext, CommandFailed, UsageError } from './context.ts';
import { EnqueueReport, waitForEnd } from './enqueue-report.ts';
import { botOf, onQueue } from './on-queue.ts';
import { botOption, jsonOption, parseIds } from './options.ts';
import { showProgress } from './progress.ts';
import { type ListEntry, readSessionList } from './session-list.ts';

interface EnqueueOptions {
  readonly file?: string;
  readonly bot?: string;
  readonly backfill?: boolean;
  readonly live?: boolean;
  readonly force?: boolean;
  readonly maybe?: boolean;
  readonly wait?: boolean;
  readonly json?: boolean;
}

/** Sessions queued at once: one round of bulk work. */
const BATCH_SIZE = LARGE_LIST;

/** `enqueue`: puts sessions into the queue. */
export function enqueueCommand(context: CliContext): Command {
  return new Command('enqueue')
    .description('Put sessions into the queue')
    .addArgument(
      new Argument('[id...]', 'session ids, or - for a list on standard input').argParser(parseIds),
    )
    .option(
      '--file <file>',
      'a list: one id a line, CSV with a sessionId column, or JSON lines; - is standard input',
    )
    .addOption(botOption())
    .option('--backfill', 'behind all live sessions, as more than 1,000 go without a word')
    .option('--live', 'among live sessions, however many they are')
    .option('--force', 'archive again what is archived already')
    .option('--maybe', 'they may have no voicemail; having none is no failure')
    .option('--wait', 'until all of them are archived or failed')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
A session is in the queue once, however often it is enqueued; one that failed runs again, and one that is
archived is left alone (unless --force). A list may name a botId for each session (a column, or a field), which
goes before --bot. Bad lines are reported with their numbers, all others are queued, and the exit code
is 1. More than 1,000 sessions go behind live ones unless --live is given. With --wait it is 1 when a session failed. An id that begins with a dash goes behind "--". A list of any
length takes the same memory; with --wait, its sessions are kept in mind (200 MB for a million).

Examples:
  $ voicemail-archiver enqueue 6560b1f0a1b2c3d4e5f60718 6560b1f0a1b2c3d4e5f60719
  $ voicemail-archiver enqueue --file sessions.csv --backfill
  $ zcat ids.txt.gz | voicemail-archiver enqueue - --bot st-1234 --wait --json
`,
    )
    .action((ids: readonly string[], options: EnqueueOptions) => enqueue(context, ids, options));
}

async function enqueue(context: CliContext, ids: readonly string[], options: EnqueueOptions): Promise<void> {
  if (options.backfill && options.live) throw new UsageError('give either --backfill or --live');
  const entries = await openListInput(context, ids, options.file);
  const report = new EnqueueReport(context, {
    asJson: options.json === true,
    eachResult: !isList(ids, options.file),
  });
  await onQueue(context, async (connection, { signal }) => {
    const bot = isList(ids, options.file)
      ? (options.bot ?? connection.defaultBotId)
      : botOf(options.bot, connection);
    const underWay = new Map<string, SessionRef>();
    const progress = showProgress(context.stderr, 'Queueing sessions');
    let isQueued = false;
    try {
      const isUndecided = !options.backfill && !options.live;
      const read = batches(entries, { ...options, bot }, report);
      for await (const batch of isUndecided ? behindLive(read, report) : read) {
        signal.throwIfAborted();
        const results = await connection.operations.enqueue(batch);
        await report.add(results);
        progress.update(report.sessions);
        if (!options.wait) continue;
        for (const { sessionId, botId, outcome } of results) {
          if (outcome !== 'already-archived') underWay.set(`${botId}.${sessionId}`, { sessionId, botId });
        }
      }
      isQueued = true;
      progress.stop();
      await report.sayTime(connection.operations);
      if (options.wait) {
        await wait([...underWay.values()], options.maybe === true, connection, report, context, signal);
      }
    } catch (error) {
      progress.stop();
      await report.end(error);
      if (report.sessions > 0 && !isQueued) {
        context.say(
          'The rest is not queued. Run the same again: what is in the queue already stays as it is.\n',
        );
      }
      throw error;
    }
    await report.end();
    if (!options.wait && connection.isAlone && report.underWay > 0) {
      context.say('No worker takes sessions from this queue yet: run "voicemail-archiver start".\n');
    }
  });
  report.throwFaults();
}

/** The sessions of a list, in batches; bad lines go into the report. */
async function* batches(
  entries: AsyncIterable<ListEntry> | Iterable<ListEntry>,
  { bot, backfill, live, force, maybe }: Omit<EnqueueOptions, 'bot'> & { readonly bot: string | undefined },
  report: EnqueueReport,
): AsyncGenerator<EnqueueRequest[]> {
  let batch: EnqueueRequest[] = [];
  for await (const entry of entries) {
    if ('fault' in entry) {
      report.addBadLine(entry.line, entry.fault);
      continue;
    }
    const { sessionId, botId = bot } = entry.session;
    if (botId === undefined) {
      report.addBadLine(entry.line, 'no botId, and no other bot is known: give --bot or set KORE_BOT_ID');
      continue;
    }
    batch.push({
      sessionId,
      botId,
      ...(live && { priority: 'live' as const }),
      ...(backfill && { priority: 'backfill' as const }),
      ...(force && { force }),
      ...(maybe && { maybe }),
    });
    if (batch.length === BATCH_SIZE) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}

/** A long list goes behind live sessions. */
async function* behindLive(
  read: AsyncGenerator<EnqueueRequest[]>,
  report: EnqueueReport,
): AsyncGenerator<EnqueueRequest[]> {
  // More than one batch is more than LARGE_LIST sessions.
  const first = await read.next();
  if (first.done) return;
  const second = await read.next();
  if (second.done) {
    yield first.value;
    return;
  }
  report.addMoved();
  const moved = (batch: EnqueueRequest[]) =>
    batch.map((request) => ({ ...request, priority: 'backfill' as const }));
  yield moved(first.value);
  yield moved(second.value);
  for await (const batch of read) yield moved(batch);
}

async function wait(
  sessions: readonly SessionRef[],
  isMaybe: boolean,
  { operations, isAlone }: Connection,
  report: EnqueueReport,
  { stderr }: CliContext,
  signal: AbortSignal,
): Promise<void> {
  if (isAlone && sessions.length > 0) {
    throw new CommandFailed(
      'the sessions are queued, but waiting for them is of no use: this queue is embedded, and no worker can use it while this command holds it; run "voicemail-archiver start", then this again',
    );
  }
  const progress = showProgress(stderr, 'Archiving', sessions.length);
  try {
    const ended = await waitForEnd(
      sessions,
      isMaybe,
      operations,
      signal,
      ({ archived, without, failures }) => {
        progress.update(
          archived + without + failures.length,
          failures.length > 0 ? `${failures.length} failed` : '',
        );
      },
    );
    report.setEnded(ended);
  } finally {
    progress.stop();
  }
}

/** Stands for standard input. */
const STDIN = '-';

/** Whether the ids come from a list and not from the arguments. */
function isList(ids: readonly string[], file: string | undefined): boolean {
  return file !== undefined || (ids.length === 1 && ids[0] === STDIN);
}

/**
 * Where the ids come from: the arguments, a file or standard input.
 * @throws UsageError when it is none of them, two of them, or no file that can be read.
 */
async function openListInput(
  context: CliContext,
  ids: readonly string[],
  file: string | undefined,
): Promise<AsyncIterable<ListEntry> | Iterable<ListEntry>> {
  if (ids.length > 0 && file !== undefined) throw new UsageError('give either ids or --file, not both');
  if (isList(ids, file)) {
    return readSessionList(file === undefined || file === STDIN ? context.stdin : await openFile(file));
  }
  if (ids.length === 0) throw new UsageError('no session ids: name some, or give a list with --file or -');
  return ids.map((sessionId, index) => ({ line: index + 1, session: { sessionId } }));
}

async function openFile(path: string): Promise<AsyncIterable<Buffer | string>> {
  try {
    const file = await open(path);
    // A directory opens, and fails when it is read.
    if ((await file.stat()).isDirectory()) {
      await file.close();
      throw new Error('it is a directory');
    }
    return file.createReadStream();
  } catch (error) {
    throw new UsageError(`--file ${path} cannot be read: ${(error as Error).message}`);
  }
}
