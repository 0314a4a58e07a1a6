import { parseArgs } from 'node:util';
import type { Rate } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { parseDuration, parseRate, parseSize } from '../../src/config/parsers.ts';
import { InvalidValue } from '../../src/config/settings.ts';
import { MIN_PART_BYTES, STREAM_BYTES, s3TransferMemory } from '../../src/domain/transfer-memory.ts';
import { type ArrivalOptions, PROFILES, type Profile } from './arrivals.ts';
import { type FleetPlan, OUTAGE_KINDS, type Outage, type OutageKind } from './plan.ts';

export const USAGE = `npm run simulate -- [options]
one Kore account and its workers; several accounts are several simulations

what comes
  --hours N                 sessions come for so long (default 24)
  --drain N                 and so many hours are simulated after that (default 24)
  --sessions N              a day (default 5000)
  --profile NAME            ${Object.keys(PROFILES).join(' or ')}: how they spread over a day (default office)
  --bytes SIZE              mean size of a recording (default 480KB)
  --late-recordings SHARE   recordings that are not there when the session is queued (default 0.2)
  --recording-delay TIME    how late these are in the mean, at most 10 minutes (default 1m)
  --late-transcripts SHARE  transcripts that come later (default 0.3)
  --transcript-delay TIME   how late these are in the mean (default 2m)
  --no-transcript SHARE     sessions for which none is ever made (default 0)
  --maybe SHARE             sessions queued without knowing whether they have a voicemail (default 0)
  --maybe-voicemail SHARE   of these: have one (default 0.4)
  --backfill N              sessions of the days before, queued behind live ones (default 0)
  --backfill-hours N        from how far back (default 24)

Kore and the fleet
  --rate RATE               KORE_RATE_LIMIT (default 60/60s)
  --workers N               (default 1)
  --outage KIND@FROM+TIME   ${OUTAGE_KINDS.join(', ')} away, as in kore@2h+30m; may be given again
  --retention TIME          how long Kore keeps a voicemail (default: for ever)
  --url-lifetime TIME       of a fileUrl (default 5m)
  --answer TIME             how long Kore takes to answer (default 200ms)
  --bandwidth SIZE          of one download, a second (default 2MB)
  --set NAME=VALUE          a variable of the product, as in WORKER_CONCURRENCY=64; may be given again

  --seed TEXT               the same seed gives the same result (default 1)
  --json                    as JSON`;

/** An option that is none, or has a wrong value. */
export class UsageError extends Error {}

/** What is to be simulated. */
export interface Simulation {
  readonly seed: string;
  readonly json: boolean;
  readonly arrivals: ArrivalOptions;
  readonly fleet: Omit<FleetPlan, 'sessions'>;
}

const HOUR_MS = 60 * 60 * 1000;
/** Variables that decide nothing in a simulation, and may not be left out. */
const PLACEHOLDERS = { QUEUE_URL: 'redis://127.0.0.1', ARCHIVE_URL: 's3://simulated' };
/** A day of ten million sessions and more takes minutes and gigabytes. */
const MAX_SESSIONS = 5_000_000;

/**
 * Reads the command line.
 * @throws UsageError that names the option and what would be right.
 */
export function parseSimulation(args: readonly string[]): Simulation | 'help' {
  const given = readOptions(args);
  if (given.help) return 'help';
  const hours = number('hours', given.hours, { min: 0.1, max: 24 * 31 });
  const drain = number('drain', given.drain, { min: 0, max: 24 * 31 });
  const perDay = number('sessions', given.sessions, { min: 1, max: MAX_SESSIONS });
  const arrivals: ArrivalOptions = {
    hours,
    perDay,
    profile: oneOf('profile', given.profile, Object.keys(PROFILES) as Profile[]),
    callMs: 60_000,
    lateRecordings: share('late-recordings', given['late-recordings']),
    recordingDelayMs: time('recording-delay', given['recording-delay']),
    lateTranscripts: share('late-transcripts', given['late-transcripts']),
    transcriptDelayMs: time('transcript-delay', given['transcript-delay']),
    withoutTranscript: share('no-transcript', given['no-transcript']),
    maybe: share('maybe', given.maybe),
    maybeWithVoicemail: share('maybe-voicemail', given['maybe-voicemail']),
    backfill: whole('backfill', given.backfill, { min: 0, max: MAX_SESSIONS }),
    backfillHours: number('backfill-hours', given['backfill-hours'], { min: 0, max: 24 * 366 }),
    bytes: size('bytes', given.bytes),
  };
  if (arrivals.lateTranscripts + arrivals.withoutTranscript > 1) {
    throw new UsageError('--late-transcripts and --no-transcript are more than 1 together');
  }
  return {
    seed: given.seed,
    json: given.json,
    arrivals,
    fleet: {
      outages: given.outage.map(outage),
      rate: rate(given.rate),
      workers: whole('workers', given.workers, { min: 1, max: 1_000 }),
      work: settings(given.set),
      bytesHeld: s3TransferMemory(arrivals.bytes, MIN_PART_BYTES) + STREAM_BYTES,
      answerMs: time('answer', given.answer),
      bytesPerSecond: size('bandwidth', given.bandwidth),
      urlLifetimeMs: time('url-lifetime', given['url-lifetime']),
      retentionMs:
        given.retention === undefined ? Number.POSITIVE_INFINITY : time('retention', given.retention),
      endsAt: (hours + drain) * HOUR_MS,
    },
  };
}

function readOptions(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        hours: { type: 'string', default: '24' },
        drain: { type: 'string', default: '24' },
        sessions: { type: 'string', default: '5000' },
        profile: { type: 'string', default: 'office' },
        bytes: { type: 'string', default: '480KB' },
        'late-recordings': { type: 'string', default: '0.2' },
        'recording-delay': { type: 'string', default: '1m' },
        'late-transcripts': { type: 'string', default: '0.3' },
        'transcript-delay': { type: 'string', default: '2m' },
        'no-transcript': { type: 'string', default: '0' },
        maybe: { type: 'string', default: '0' },
        'maybe-voicemail': { type: 'string', default: '0.4' },
        backfill: { type: 'string', default: '0' },
        'backfill-hours': { type: 'string', default: '24' },
        rate: { type: 'string', default: '60/60s' },
        workers: { type: 'string', default: '1' },
        outage: { type: 'string', multiple: true, default: [] },
        retention: { type: 'string' },
        'url-lifetime': { type: 'string', default: '5m' },
        answer: { type: 'string', default: '200ms' },
        bandwidth: { type: 'string', default: '2MB' },
        set: { type: 'string', multiple: true, default: [] },
        seed: { type: 'string', default: '1' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function number(
  option: string,
  text: string,
  { min, max }: { readonly min: number; readonly max: number },
): number {
  const value = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw new UsageError(`--${option}: "${text}" is no number from ${min} to ${max}`);
  }
  return value;
}

function whole(option: string, text: string, range: { readonly min: number; readonly max: number }): number {
  const value = number(option, text, range);
  if (!Number.isInteger(value)) throw new UsageError(`--${option}: "${text}" is no whole number`);
  return value;
}

function share(option: string, text: string): number {
  return number(option, text, { min: 0, max: 1 });
}

function oneOf<Word extends string>(option: string, text: string, words: readonly Word[]): Word {
  const word = words.find((one) => one === text);
  if (word === undefined) throw new UsageError(`--${option}: "${text}" is none of ${words.join(', ')}`);
  return word;
}

/** By one of the product's own parsers. */
function parsed<Value>(option: string, text: string, parse: (text: string) => Value): Value {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof InvalidValue)) throw error;
    throw new UsageError(`--${option}: ${error.message}`);
  }
}

const time = (option: string, text: string) => parsed(option, text, parseDuration);
const size = (option: string, text: string) => Math.max(1, parsed(option, text, parseSize));
const rate = (text: string): Rate => parsed('rate', text, parseRate);

/** `kore@2h+30m` */
function outage(text: string): Outage {
  const [, kind = '', from = '', lasts = ''] = /^([a-z]+)@([^+]+)\+(.+)$/.exec(text) ?? [];
  const known = OUTAGE_KINDS.find((one): one is OutageKind => one === kind);
  if (!known) {
    throw new UsageError(
      `--outage: "${text}" is not as in kore@2h+30m, with one of ${OUTAGE_KINDS.join(', ')}`,
    );
  }
  const start = time('outage', from);
  return { kind: known, from: start, to: start + time('outage', lasts) };
}

/** The product's settings, with those that are set otherwise. */
function settings(pairs: readonly string[]): FleetPlan['work'] {
  const environment: Record<string, string> = { ...PLACEHOLDERS };
  for (const pair of pairs) {
    const [name = '', value] = pair.split(/=(.*)/s);
    if (!/^[A-Z][A-Z0-9_]*$/.test(name) || value === undefined) {
      throw new UsageError(`--set: "${pair}" is not as in WORKER_CONCURRENCY=64`);
    }
    environment[name] = value;
  }
  try {
    const { work, warnings } = loadConfig(environment, { needs: [] });
    const [unknown] = warnings;
    if (unknown) throw new UsageError(`--set: ${unknown.variable}: ${unknown.message}`);
    return work;
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error)) throw error;
    throw new UsageError(`--set: ${error.message}`);
  }
}
