import { Argument, Command, Option } from 'commander';
import type { ErasureView } from '../domain/custody.ts';
import { type ArchiverStats, LISTED_STATES, type ListedState } from '../domain/requests.ts';
import { SESSION_STATES, type SessionView } from '../domain/views.ts';
import type { Operations } from '../operations/operations.ts';
import type { Connection } from './connect.ts';
import { type CliContext, CommandFailed, UsageError } from './context.ts';
import { onQueue } from './on-queue.ts';
import { botOption, codeOption, jsonOption, parseIds, parseSearch, wholeNumber } from './options.ts';
import { count, table, timeSpan } from './output.ts';

interface StatusOptions {
  readonly bot?: string;
  readonly state?: ListedState;
  readonly code?: string;
  readonly search?: string;
  readonly limit?: number;
  readonly json?: boolean;
}

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000_000;
/** Sessions that are requested at once. */
const PAGE_SIZE = 1_000;

/** `status`: counts, or sessions. */
export function statusCommand(context: CliContext): Command {
  return new Command('status')
    .description('Show how many sessions are in which state, or how single ones are')
    .addArgument(new Argument('[id...]', 'session ids').argParser(parseIds))
    .addOption(botOption())
    .addOption(new Option('--state <state>', 'list the sessions in this state').choices(LISTED_STATES))
    .addOption(codeOption('list the sessions whose last error has this code'))
    .addOption(
      new Option('--search <text>', 'list the sessions with this part of an id').argParser(parseSearch),
    )
    .addOption(
      new Option('--limit <n>', `list this many sessions at most (default: ${DEFAULT_LIMIT})`).argParser(
        wholeNumber(1, MAX_LIMIT),
      ),
    )
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
The states are queued, active, waiting (for what is not ready yet, or for another attempt), archived and failed;
"--state partial" lists those that failed with some recordings archived. Lists are newest first, and --bot narrows them.
With ids, the exit code is 1 when one of them is unknown.

Examples:
  $ voicemail-archiver status
  $ voicemail-archiver status 6560b1f0a1b2c3d4e5f60718
  $ voicemail-archiver status --state failed --code RECORDING_UNAVAILABLE --json
  $ voicemail-archiver status --search e5f607
`,
    )
    .action((ids: readonly string[], options: StatusOptions) => status(context, ids, options));
}

async function status(context: CliContext, ids: readonly string[], options: StatusOptions): Promise<void> {
  const isList = [options.state, options.code, options.search, options.limit].some(
    (one) => one !== undefined,
  );
  if (ids.length > 0 && isList)
    throw new UsageError('give either ids, or --state, --code, --search and --limit');
  await onQueue(context, async (connection) => {
    if (ids.length > 0) await showSessions(context, ids, options, connection);
    else if (isList) await listSessions(context, options, connection.operations);
    else await showStats(context, options, connection.operations);
  });
}

async function showStats(
  { out }: CliContext,
  { json }: StatusOptions,
  operations: Operations,
): Promise<void> {
  const stats = await operations.stats();
  if (json) await out.json(stats);
  else await out.lines(statsTable(stats));
}

function statsTable({
  health,
  states,
  paused,
  transcriptsPending,
  oldestQueuedAt,
  backlog,
  failuresByCode,
  rateLimit,
  workers,
  breakers,
}: ArchiverStats): string[] {
  const number = (value: number) => value.toLocaleString('en');
  const lines = table(
    [
      ...SESSION_STATES.map((state) => [state, number(states[state])]),
      ['checked again', number(transcriptsPending)],
    ],
    [1],
  );
  lines.push(health.text);
  if (paused) lines.push('the queue is paused: no session is taken until "voicemail-archiver resume"');
  if (oldestQueuedAt !== undefined) {
    const age = timeSpan(Date.now() - Date.parse(oldestQueuedAt));
    lines.push(`the oldest queued session has waited ${age}`);
  }
  if (backlog.secondsUntilDone !== undefined) {
    lines.push(`done in about ${timeSpan(backlog.secondsUntilDone * 1000)}`);
  }
  if (rateLimit) {
    const window = timeSpan(rateLimit.windowSeconds * 1000);
    lines.push(
      `calls to Kore: ${number(rateLimit.used)} of ${number(rateLimit.limit)} in the last ${window}`,
    );
  }
  for (const { host, pid, version, startedAt, concurrency, active } of workers) {
    const age = timeSpan(Date.now() - Date.parse(startedAt));
    lines.push(
      `worker ${host} (process ${pid}, version ${version}): ${active} of ${concurrency}, for ${age}`,
    );
  }
  const failures = Object.entries(failuresByCode).sort(([, a], [, b]) => b - a);
  if (failures.length > 0) {
    lines.push(`failed for: ${failures.map(([code, times]) => `${code} ${number(times)}`).join(', ')}`);
  }
  for (const { dependency, state, since, reason } of breakers ?? []) {
    if (state === 'closed') continue;
    const time = since === undefined ? '' : ` for ${timeSpan(Date.now() - Date.parse(since))}`;
    lines.push(
      `${dependency} is unavailable${time}, sessions wait for it: ${reason ?? 'no reason is known'}`,
    );
  }
  return lines;
}

async function listSessions(
  { out, say }: CliContext,
  options: StatusOptions,
  operations: Operations,
): Promise<void> {
  const { state, code, search, bot, limit = DEFAULT_LIMIT } = options;
  const sessions: SessionView[] = [];
  let cursor: string | undefined;
  do {
    const page = await operations.list({
      ...(state && { state }),
      ...(code && { code }),
      ...(search && { q: search }),
      ...(bot && { botId: bot }),
      limit: Math.min(PAGE_SIZE, limit - sessions.length),
      ...(cursor && { cursor }),
    });
    sessions.push(...page.sessions);
    cursor = page.nextCursor;
  } while (cursor !== undefined && sessions.length < limit);

  if (options.json) return out.json({ sessions, ...(cursor !== undefined && { nextCursor: cursor }) });
  if (sessions.length === 0) say('There are no such sessions.\n');
  await out.lines(table(sessions.map((view) => [view.sessionId, view.botId, view.state, remark(view)])));
  if (cursor !== undefined) say(`These are the first ${count(limit, 'session')}; --limit shows more.\n`);
}

async function showSessions(
  { out }: CliContext,
  ids: readonly string[],
  options: StatusOptions,
  { operations, custody, defaultBotId }: Connection,
): Promise<void> {
  const botId = options.bot ?? defaultBotId;
  if (botId === undefined) throw new UsageError('which bot? Give --bot or set KORE_BOT_ID');
  const sessions: SessionView[] = [];
  const unknown: string[] = [];
  const erased: ErasureView[] = [];
  for (const sessionId of ids) {
    const view = await operations.view({ sessionId, botId });
    const erasure = view ? undefined : await custody.erasure({ sessionId, botId });
    if (view) sessions.push(view);
    else if (erasure) erased.push(erasure);
    else unknown.push(sessionId);
    if (options.json || !(view || erasure)) continue;
    const lines = view ? sessionLines(view) : erasure ? erasureLines(erasure) : [];
    await out.lines([...(sessions.length + erased.length > 1 ? [''] : []), ...lines]);
  }
  if (options.json) await out.json({ sessions, unknown, ...(erased.length > 0 && { erased }) });
  if (unknown.length > 0) {
    throw new CommandFailed(
      `neither the queue nor the archive knows ${count(unknown.length, 'session')} of bot ${botId}: ${unknown.join(', ')}`,
    );
  }
}

/** What is left to say of a session that was erased. */
function erasureLines({ sessionId, botId, state, erasedAt, reason }: ErasureView): string[] {
  const done =
    state === 'erased'
      ? erasedAt
      : `begun at ${erasedAt} and not completed: run "voicemail-archiver erase" again`;
  const rows = [
    ['session', sessionId],
    ['bot', botId],
    ['erased', done],
  ];
  return table(reason === undefined ? rows : [...rows, ['reason', reason]]);
}

/** Everything about a session that a person may want to know. */
function sessionLines(view: SessionView): string[] {
  const { progress, error } = view;
  const rows: [string, string | number | undefined][] = [
    ['session', view.sessionId],
    ['bot', view.botId],
    ['state', view.state],
    ['transcript', view.transcript],
    ['attempts', view.attempts],
    ['queued', view.enqueuedAt],
    ['started', view.startedAt],
    ['finished', view.finishedAt],
    ['next attempt', view.nextAttemptAt],
    [
      'progress',
      view.state === 'active' && progress
        ? `${progress.recordingsDone} of ${count(progress.recordings, 'recording')}, ${count(progress.bytes, 'byte')}`
        : undefined,
    ],
    ['last error', error && `${error.code}: ${error.message} (${error.at})`],
    ['what to do', error?.hint],
    ...(view.recordings ?? []).map(({ key, bytes, durationSeconds }): [string, string] => [
      'recording',
      `${key} (${count(bytes, 'byte')}${durationSeconds === undefined ? '' : `, ${durationSeconds.toFixed(1)} s`})`,
    ]),
    ...(view.missing ?? []).map(({ fileName, code, message }): [string, string] => [
      'missing',
      `${fileName} (${code}: ${message})`,
    ]),
    ['manifest', view.manifestKey],
    ...(view.history ?? []).map(({ at, event, by, code, message, detail }): [string, string] => {
      const error = code && `${code}: ${message ?? ''}`;
      return [at, [event, by && `by ${by}`, error, detail].filter(Boolean).join(', ')];
    }),
  ];
  return table(rows.flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])));
}

/** What matters most about a session in its state, in a few words. */
function remark(view: SessionView): string {
  const error = view.error ? `${view.error.code}: ${view.error.message}` : '';
  switch (view.state) {
    case 'queued':
      return `since ${view.enqueuedAt}`;
    case 'active':
      return view.startedAt === undefined ? '' : `since ${view.startedAt}`;
    case 'waiting':
      return [view.nextAttemptAt && `until ${view.nextAttemptAt}`, error].filter(Boolean).join(', ');
    case 'archived':
      return `${count(view.recordings?.length ?? 0, 'recording')}, transcript ${view.transcript ?? 'unknown'}`;
    case 'failed':
      return error;
  }
}
