import { columns } from '../table.ts';
import type { Backlog, FleetResult, SimulatedCall } from './plan.ts';

const HOUR_MS = 60 * 60 * 1000;
const BAR_CHARACTERS = 40;

/** The report of a simulation. Times in seconds unless their names say otherwise. */
export interface Summary {
  readonly sessions: number;
  readonly archived: number;
  readonly failed: number;
  readonly withoutVoicemail: number;
  readonly lost: number;
  readonly open: number;
  readonly wereAtRisk: number;
  readonly expiredUrls: number;
  /** From queueing to the manifest. */
  readonly wait: Quantiles;
  /** From when the recording was there to be had to the manifest. */
  readonly delay: Quantiles;
  readonly calls: Readonly<Record<SimulatedCall['purpose'] | 'total', number>>;
  readonly callsPerArchived: number;
  /** Of the calls that the limit allows until the last session was archived. */
  readonly limitUsed: number;
  readonly backlog: readonly Backlog[];
}

/** Of some times. */
export interface Quantiles {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** @param callsPerMs what the limit allows. */
export function summarise(result: FleetResult, callsPerMs: number): Summary {
  const { waits, delays, calls, ...counts } = result;
  const of = (purpose: SimulatedCall['purpose']) => calls.filter((call) => call.purpose === purpose).length;
  const spanMs = Math.max(1, calls.at(-1)?.at ?? 1);
  return {
    sessions: counts.archived + counts.failed + counts.withoutVoicemail + counts.lost + counts.open,
    ...counts,
    wait: quantiles(waits),
    delay: quantiles(delays),
    calls: {
      session: of('session'),
      check: of('check'),
      'fresh-url': of('fresh-url'),
      probe: of('probe'),
      total: calls.length,
    },
    callsPerArchived: calls.length / Math.max(1, counts.archived),
    limitUsed: calls.length / (spanMs * callsPerMs),
  };
}

function quantiles(milliseconds: readonly number[]): Quantiles {
  const sorted = milliseconds.toSorted((a, b) => a - b);
  const at = (part: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0) / 1000;
  return { p50: at(0.5), p99: at(0.99), max: (sorted.at(-1) ?? 0) / 1000 };
}

/** As text for people. */
export function reportOf(summary: Summary): string {
  const { wait, delay, calls } = summary;
  const most = Math.max(1, ...summary.backlog.map(({ open }) => open));
  const rows = summary.backlog
    .filter((_, index) => index % 2 === 1)
    .map(({ at, open, archived, atRisk }) => [
      `${(at / HOUR_MS).toFixed(1)} h`,
      String(open),
      String(archived),
      String(atRisk),
      '#'.repeat(Math.round((open / most) * BAR_CHARACTERS)).padEnd(BAR_CHARACTERS),
    ]);
  return [
    `${summary.sessions} sessions: ${summary.archived} archived, ${summary.withoutVoicemail} without a voicemail, ` +
      `${summary.failed} failed, ${summary.open} still open`,
    `lost (Kore forgot them first): ${summary.lost}; were at risk: ${summary.wereAtRisk}; ` +
      `URLs expired before the download: ${summary.expiredUrls}`,
    `calls: ${calls.total} (${summary.callsPerArchived.toFixed(2)} per archived session; ` +
      `${calls.session} for sessions, ${calls.check} checks, ${calls['fresh-url']} fresh URLs, ${calls.probe} probes), ` +
      `${(100 * summary.limitUsed).toFixed(0)}% of the limit`,
    '',
    columns([
      ['', 'p50', 'p99', 'max'],
      ['queued to archived', said(wait.p50), said(wait.p99), said(wait.max)],
      ['recording there to archived', said(delay.p50), said(delay.p99), said(delay.max)],
    ]),
    '',
    columns([['at', 'open', 'archived', 'at risk', 'open'.padEnd(BAR_CHARACTERS)], ...rows]),
  ].join('\n');
}

function said(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 2 * 3_600 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3_600).toFixed(1)} h`;
}
