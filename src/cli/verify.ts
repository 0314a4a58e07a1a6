import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import type { ArchiveTarget, Config } from '../config/config.ts';
import { systemCode } from '../domain/errors.ts';
import { toArchiveFileError } from '../storage/fs/files.ts';
import type { ArchiveStore } from '../storage/store.ts';
import type { Logger } from '../util/log.ts';
import type { Checkpoint } from '../verification/checkpoint.ts';
import { addOutcome, countFindings, type Finding, NO_OUTCOME } from '../verification/findings.ts';
import type { Scope } from '../verification/scope.ts';
import type { VerificationProgress } from '../verification/verify.ts';
import { type CliContext, CommandFailed, loadCommand, UsageError } from './context.ts';
import { jsonOption, parseIdArgument, parseIds, parseTime, wholeNumber } from './options.ts';
import { count } from './output.ts';
import { type ProgressDisplay, showProgress } from './progress.ts';
import { BrokenSessions, type RepairCounts, VerifyReport } from './verify-report.ts';

interface VerifyOptions {
  readonly bot?: string;
  readonly from?: Date;
  readonly to?: Date;
  readonly concurrency: number;
  readonly checkpoint?: string;
  readonly repair?: boolean;
  readonly publicKey: readonly KeyObject[];
  readonly json?: boolean;
}

const DEFAULT_CONCURRENCY = 8;
const MAX_CONCURRENCY = 256;

/** `verify`: reads archived objects again and compares them with their manifests. */
export function verifyCommand(context: CliContext): Command {
  return new Command('verify')
    .description('Read archived objects again and compare them with their manifests')
    .addArgument(
      new Argument('[id...]', 'session ids; without any, all that is archived').argParser(parseIds),
    )
    .addOption(
      new Option(
        '--from <time>',
        'sessions that began from then on, by their ids (ISO 8601, UTC unless it says otherwise)',
      ).argParser(parseTime),
    )
    .addOption(new Option('--to <time>', 'and before then').argParser(parseTime))
    .addOption(
      new Option(
        '--bot <id>',
        'the bot that the ids belong to (default: KORE_BOT_ID); without ids, only its sessions (default: all bots)',
      ).argParser(parseIdArgument),
    )
    .addOption(
      new Option('--concurrency <n>', 'sessions read at a time')
        .argParser(wholeNumber(1, MAX_CONCURRENCY))
        .default(DEFAULT_CONCURRENCY),
    )
    .option(
      '--checkpoint <file>',
      'note there how far it came; run again with the same file, it goes on there',
    )
    .addOption(
      new Option(
        '--public-key <file>',
        'check signatures and daily digests with this Ed25519 public key too (PEM); may be given several times',
      )
        .argParser(addPublicKey)
        .default([], 'signatures are not checked'),
    )
    .option('--repair', 'queue the sessions that are broken, to be archived again')
    .addOption(jsonOption())
    .addHelpText('after', HELP)
    .action((ids: readonly string[], options: VerifyOptions) => verify(context, ids, options));
}

const HELP = `
Size, SHA-256 and audio container of every recording and transcript are compared with the session's manifest. Each
finding is a line on standard output:

  missing     a manifest names it and it is not there; or a session given by its id is not archived
  changed     it is not what its manifest says; or a manifest is not of the session it lies with
  unreadable  it can't be read, or it is no manifest
  orphaned    no manifest names it: its manifest was deleted, its session is still being archived, or it is foreign

With --public-key, every manifest's signature is checked, the chain of daily digests, and that they agree. Then "missing"
and "changed" are also manifests that digests name otherwise, and digests themselves, and there are

  forged      none of the given keys signed it
  unlisted    it is signed, but the digests of its time do not name it: it was slipped in, or put back after an erasure

A finding is checked again before it is reported, once it is ten seconds old, because sessions may be archived
meanwhile. Nothing is ever deleted. A session of which nothing at all is left can't be found so: that is what
"backfill --dry-run" is for.

With dates, only the partitions of those dates are listed; sessions without a date ("undated", whose ids have
none) and foreign objects elsewhere are looked at only when no dates are given. --repair queues sessions behind live
ones, as "enqueue --backfill --force" does: they are fixed while Kore still has them, and left as they are when it
has not. Of a session that is saved in part only the rest is tried again. What may not be read (rights, or a storage
class to restore it from) is not queued. The exit code is 1 when anything was found, repaired or not.

Examples:
  $ voicemail-archiver verify
  $ voicemail-archiver verify 6560b1f0a1b2c3d4e5f60718
  $ voicemail-archiver verify --from 2026-01-01 --to 2026-02-01 --json
  $ voicemail-archiver verify --checkpoint verify.state --concurrency 32
  $ voicemail-archiver verify --from 2026-01-01 --repair
  $ voicemail-archiver verify --public-key manifest-key.pub.pem
`;

async function verify(context: CliContext, ids: readonly string[], options: VerifyOptions): Promise<void> {
  const { config, log } = loadCommand(context);
  const scope = scopeOf(ids, options, config);
  const signal = context.stopSignal();
  await assertThere(config.archive);
  const { openStore } = await import('../storage/open.ts');
  const store = await openStore(config.archive, { logger: log });
  try {
    const checkpoint = await openCheckpoint(options.checkpoint, store, scope);
    try {
      await verifyAndReport({ context, scope, options, config, log, store, checkpoint }, signal);
    } finally {
      await checkpoint?.close();
    }
  } finally {
    await store.close();
  }
}

/** A directory that is not mounted must not look like an archive in which nothing is wrong. */
async function assertThere(target: ArchiveTarget): Promise<void> {
  if (target.kind !== 'file') return;
  const { directory } = target;
  const found = await stat(directory).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw toArchiveFileError(error, `file:${directory}`);
  });
  if (found?.isDirectory()) return;
  const why = found ? 'it is no directory' : 'nothing was archived there yet, or it is not mounted';
  throw new CommandFailed(`there is no archive in ${directory}: ${why}; or ARCHIVE_URL is wrong`);
}

function scopeOf(ids: readonly string[], { bot, from, to }: VerifyOptions, config: Config): Scope {
  const hasDates = from !== undefined || to !== undefined;
  if (ids.length > 0 && hasDates) throw new UsageError('give either ids, or --from and --to');
  if (from !== undefined && to !== undefined && from >= to) {
    throw new UsageError('--from must be before --to');
  }
  if (ids.length === 0) {
    return {
      kind: 'archive',
      ...(bot !== undefined && { botId: bot }),
      ...(from && { from }),
      ...(to && { to }),
    };
  }
  const botId = bot ?? config.defaultBotId;
  if (botId === undefined) throw new UsageError('which bot? Give --bot or set KORE_BOT_ID');
  return { kind: 'sessions', sessions: ids.map((sessionId) => ({ sessionId, botId })) };
}

async function openCheckpoint(
  path: string | undefined,
  { location }: ArchiveStore,
  scope: Scope,
): Promise<Checkpoint | undefined> {
  if (path === undefined) return undefined;
  const checkpoints = await import('../verification/checkpoint.ts');
  try {
    return await checkpoints.openCheckpoint(path, location, scope);
  } catch (error) {
    if (error instanceof checkpoints.CheckpointRefused)
      throw new UsageError(`--checkpoint: ${error.message}`);
    const code = systemCode(error);
    if (code === undefined) throw error;
    throw new UsageError(`--checkpoint: ${path} can't be read and written (${code}): name another file`);
  }
}

interface Verification {
  readonly context: CliContext;
  readonly scope: Scope;
  readonly options: VerifyOptions;
  readonly config: Config;
  readonly log: Logger;
  readonly store: ArchiveStore;
  readonly checkpoint: Checkpoint | undefined;
}

async function verifyAndReport(
  { context, scope, options, config, log, store, checkpoint }: Verification,
  signal: AbortSignal,
): Promise<void> {
  const { verifyArchive } = await import('../verification/verify.ts');
  const report = new VerifyReport(context.out, options.json === true);
  const display = new Display(context, scope);
  const broken = new BrokenSessions();
  const onFinding = async (finding: Finding) => {
    if (options.repair) broken.add(finding);
    display.clear();
    await report.add(finding);
  };
  const onProgress = (progress: VerificationProgress) => {
    report.totals = progress.totals;
    display.update(progress);
  };
  const { concurrency } = options;
  try {
    await verifyArchive(
      scope,
      { store, concurrency, ...(checkpoint && { checkpoint }), onFinding, onProgress },
      signal,
    );
    display.stop();
    if (options.publicKey.length > 0) await checkSignatures({ scope, options, store, report }, signal);
    if (options.repair) report.repaired = await repair(broken, context, { config, log, signal });
    await checkpoint?.remove();
  } catch (error) {
    display.stop();
    await report.end(error);
    if (checkpoint) context.say('The checkpoint is kept: run this again, and it goes on from there.\n');
    throw error;
  }
  await report.end();
  if (report.totals.sessions === 0) context.say(`There are no such sessions in ${store.location}.\n`);
  const findings = countFindings(report.totals);
  if (findings > 0) throw new CommandFailed(`${count(findings, 'finding')} in ${store.location}`);
}

/** Signatures are checked from the beginning each time: a checkpoint goes by what recordings take. */
async function checkSignatures(
  {
    scope,
    options,
    store,
    report,
  }: Pick<Verification, 'scope' | 'options' | 'store'> & { readonly report: VerifyReport },
  signal: AbortSignal,
): Promise<void> {
  const { verifySignatures } = await import('../verification/verify-signatures.ts');
  const { readPublicKeys } = await import('../signing/signatures.ts');
  const onFinding = async (finding: Finding) => {
    report.totals = addOutcome(report.totals, { ...NO_OUTCOME, findings: [finding] });
    await report.add(finding);
  };
  report.digests = await verifySignatures(
    scope,
    {
      store,
      keys: readPublicKeys(options.publicKey),
      concurrency: options.concurrency,
      now: () => new Date(),
      onFinding,
    },
    signal,
  );
}

/** One more `--public-key`. */
function addPublicKey(path: string, before: readonly KeyObject[]): readonly KeyObject[] {
  const key = publicKeyIn(path);
  if (key?.asymmetricKeyType !== 'ed25519') {
    throw new InvalidArgumentError(
      `${path} is no file with an Ed25519 public key in PEM; make one: openssl pkey -in key.pem -pubout -out key.pub.pem`,
    );
  }
  return [...before, key];
}

function publicKeyIn(path: string): KeyObject | undefined {
  try {
    return createPublicKey(readFileSync(path));
  } catch {
    return undefined; // the message above says all that helps
  }
}

async function repair(
  broken: BrokenSessions,
  { say }: CliContext,
  { config, log, signal }: { readonly config: Config; readonly log: Logger; readonly signal: AbortSignal },
): Promise<RepairCounts> {
  if (broken.size === 0) return { queued: 0, alreadyQueued: 0 };
  const { withConnection } = await import('./connect.ts');
  return withConnection(config, { log, signal, say }, async ({ operations, isAlone }) => {
    const counts = await broken.enqueue(operations, signal);
    if (isAlone) say('No worker takes sessions from this queue yet: run "voicemail-archiver start".\n');
    return counts;
  });
}

/** Shows on standard error how far it has come. */
class Display {
  readonly #context: CliContext;
  readonly #what: string;
  #progress: ProgressDisplay | undefined;

  constructor(context: CliContext, scope: Scope) {
    this.#context = context;
    this.#what = scope.kind === 'sessions' ? 'Verifying sessions' : 'Verifying dates';
  }

  update({ units, unitsDone, totals }: VerificationProgress): void {
    this.#progress ??= showProgress(this.#context.stderr, this.#what, units);
    const findings = countFindings(totals);
    const found = findings > 0 ? `, ${count(findings, 'finding')}` : '';
    this.#progress.update(unitsDone, count(totals.sessions, 'session') + found);
  }

  clear(): void {
    this.#progress?.clear();
  }

  stop(): void {
    this.#progress?.stop();
  }
}
