import { Gauge, type Registry } from 'prom-client';
import type { Logger } from '../../util/log.ts';

/** What the latest reports say. */
export interface MeasuredCompleteness {
  /** Those within retention that have a report, at most 31. */
  readonly days: readonly { readonly date: string; readonly missing: number; readonly atRisk: number }[];
}

/** The reports are read from the archive, which may take long, and a scrape may not. */
const TIMEOUT_MS = 3_000;

/**
 * Gauges of completeness, brought up to date by the function returned. Unknown days are left out, and when
 * the reports can't be read, so are all.
 */
export function createCompletenessMetrics(
  registry: Registry,
  read: (() => Promise<MeasuredCompleteness>) | undefined,
  log: Logger,
): () => Promise<void> {
  const registers = [registry];
  const missing = new Gauge({
    name: 'voicemail_missing',
    help: 'Voicemails that Kore lists of a day and that are neither archived nor queued, by the last report within retention. The same from every process: aggregate with max.',
    labelNames: ['day'],
    registers,
  });
  const atRisk = new Gauge({
    name: 'voicemail_at_risk',
    help: 'Sessions that are missing or waiting, with less than a quarter of KORE_RETENTION left, by the last reports. The same from every process: aggregate with max.',
    registers,
  });
  if (!read) atRisk.remove();
  let wasReadable = true;

  return async () => {
    if (!read) return;
    missing.reset();
    atRisk.remove();
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    try {
      const { days } = await Promise.race([read(), aborted(timeout)]);
      for (const { date, missing: number } of days) missing.set({ day: date }, number);
      atRisk.set(days.reduce((sum, day) => sum + day.atRisk, 0));
      wasReadable = true;
    } catch (error) {
      if (wasReadable)
        log.warn({ err: error }, 'metrics: the completeness reports cannot be read, so they are left out');
      wasReadable = false;
    }
  };
}

/**
 * A gauge of the digests that are late, brought up to date by the function returned; left out where nothing is signed,
 * and when the archive can't be listed.
 */
export function createDigestMetrics(
  registry: Registry,
  read: (() => Promise<number>) | undefined,
  log: Logger,
): () => Promise<void> {
  const due = new Gauge({
    name: 'voicemail_digests_due',
    help: 'Days that ended more than 6 hours ago and have no signed digest (MANIFEST_KEY_FILE). The same from every process: aggregate with max.',
    registers: [registry],
  });
  due.remove();
  let wasReadable = true;
  return async () => {
    if (!read) return;
    due.remove();
    try {
      due.set(await Promise.race([read(), aborted(AbortSignal.timeout(TIMEOUT_MS))]));
      wasReadable = true;
    } catch (error) {
      if (wasReadable)
        log.warn({ err: error }, 'metrics: the digests cannot be listed, so their number is left out');
      wasReadable = false;
    }
  };
}

async function aborted(signal: AbortSignal): Promise<never> {
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  throw signal.reason;
}
