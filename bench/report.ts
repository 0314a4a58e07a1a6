/** The figures of the contest, as a table and as a plot. */

import { CONTESTANTS, type Contestant, type Cost } from './contest.ts';
import { barChart } from './plot.ts';
import { columns, median, summary } from './table.ts';

/** What the rounds of each contestant cost. */
export interface Results {
  /** What was measured, and on what. */
  readonly setting: string;
  readonly costs: ReadonlyMap<Contestant, readonly Cost[]>;
}

/** What the product is to come to at most, as multiples of the others' CPU time. */
const TARGETS = { bareHttp: 2.5, bullmqFetch: 0.55 } as const;
const MB = 1_000_000;

/** Medians with their ranges, and ratios within the same round. */
export function tableOf({ costs }: Results): string {
  const rows = [...costs].map(([{ name }, rounds]) => {
    const values = (pick: (cost: Cost) => number) => rounds.map(pick);
    return [
      name,
      summary(
        values(({ cpuMsPerSession }) => cpuMsPerSession),
        2,
      ),
      median(values(({ sessionsPerSecond }) => sessionsPerSecond)).toFixed(0),
      `${(median(values(({ peakMemoryBytes }) => peakMemoryBytes)) / MB).toFixed(0)} MB`,
      requests(rounds[0]),
      `${median(values(({ redisScriptsPerSession }) => redisScriptsPerSession)).toFixed(1)} + ${median(
        values(({ redisCommandsPerSession }) => redisCommandsPerSession),
      ).toFixed(1)}`,
    ];
  });
  const heads = ['', 'CPU ms', 'sessions/s', 'peak memory', 'S3 requests', 'Redis scripts + commands'];
  const compared = (['bareHttp', 'bullmqFetch'] as const).flatMap((id) => {
    const ratios = ratiosTo(CONTESTANTS[id], costs);
    const [mark] = CONTESTANTS[id].name.split(' ', 1);
    return ratios.length === 0
      ? []
      : [[`voicemail-archiver to ${mark}, CPU`, summary(ratios, 2), `target ${TARGETS[id]}`]];
  });
  return [columns([heads, ...rows]), '', ...(compared.length > 0 ? [columns(compared)] : [])].join('\n');
}

/** CPU time a session of each contestant. */
export function plotOf({ setting, costs }: Results): string {
  return barChart({
    title: 'CPU time of the worker for one session (ms, median)',
    notes: setting.split('\n'),
    bars: [...costs].map(([{ name }, rounds]) => ({
      label: name,
      value: median(rounds.map(({ cpuMsPerSession }) => cpuMsPerSession)),
    })),
  });
}

function ratiosTo(other: Contestant, costs: Results['costs']): number[] {
  const others = costs.get(other) ?? [];
  return (costs.get(CONTESTANTS.archiver) ?? []).flatMap(({ cpuMsPerSession }, round) => {
    const compared = others[round];
    return compared ? [cpuMsPerSession / compared.cpuMsPerSession] : [];
  });
}

function requests(cost: Cost | undefined): string {
  const counts = Object.entries(cost?.requestsPerSession ?? {});
  return counts.map(([method, count]) => `${count.toFixed(1)} ${method}`).join(' ') || '-';
}
