import { Counter, Histogram, type Registry } from 'prom-client';
import type { CallOutcome } from '../kore/client.ts';
import { NO_CODE } from './labels.ts';

/** What the Kore client and the limit on its calls report to. */
export interface KoreMetrics {
  /** A call ended. */
  onCall(outcome: CallOutcome): void;
  /** A call had to wait for its turn before it was made, for so long. */
  onWait(seconds: number): void;
}

/** The `status` of a call that got no answer. */
const NO_STATUS = 'none';
const DURATION_BUCKETS_S = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** A call that would wait longer goes back into the queue with its session. */
const WAIT_BUCKETS_S = [0.05, 0.1, 0.25, 0.5, 1, 2, 3];

/** Metrics of the calls to Kore. */
export function createKoreMetrics(registry: Registry): KoreMetrics {
  const registers = [registry];
  const calls = new Counter({
    name: 'voicemail_kore_calls_total',
    help: 'Calls of the Kore API, by HTTP status (none when no answer came) and error code (none when the call gave what was asked for, or was cancelled).',
    labelNames: ['status', 'code'],
    registers,
  });
  const duration = new Histogram({
    name: 'voicemail_kore_call_duration_seconds',
    help: 'Time from sending a call of the Kore API to its end, without the wait for the rate limit.',
    buckets: DURATION_BUCKETS_S,
    registers,
  });
  const waits = new Histogram({
    name: 'voicemail_kore_call_limit_wait_seconds',
    help: 'Time that calls of the Kore API waited for the rate limit (KORE_RATE_LIMIT); those that did not wait are left out.',
    buckets: WAIT_BUCKETS_S,
    registers,
  });

  return {
    onCall({ status, code, milliseconds }) {
      calls.inc({ status: status ?? NO_STATUS, code: code ?? NO_CODE });
      duration.observe(milliseconds / 1000);
    },
    onWait: (seconds) => waits.observe(seconds),
  };
}
