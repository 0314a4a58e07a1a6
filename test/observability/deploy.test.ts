import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { type MetricFamily, type Sample, sampleNames } from '../support/metrics-parser.ts';
import { reportEverything, scrape, testMetrics } from '../support/metrics-samples.ts';
import { type Matcher, matches, readPromql, type Selector } from '../support/promql-parser.ts';

const DEPLOY = new URL('../../deploy/', import.meta.url);
/** The labels that Prometheus adds to everything it scrapes. */
const TARGET_LABELS = ['job', 'instance'];
/** What Prometheus itself says of each process that it reads. */
const UP: MetricFamily = {
  name: 'up',
  type: 'gauge',
  help: '',
  samples: [{ name: 'up', labels: {}, value: 1 }],
};
/** Metrics of ours that need no panel and no alert, with the reason. */
const NOT_SHOWN: Readonly<Record<string, string>> = {};
/** What the rows of the dashboard are to be. */
const ROWS = ['Intake and queue', 'Completeness', 'Archiving', 'Downloads and expiry', 'Kore API', 'Process'];
/** What people are to be woken up for. */
const ALERTS = [
  'VoicemailNothingArchived',
  'VoicemailCredentialsRefused',
  'VoicemailSessionsFailing',
  'VoicemailMostSessionsFailing',
  'VoicemailOldestTooOld',
  'VoicemailLittleTimeBeforeExpiry',
  'VoicemailTranscriptsGivenUp',
  'VoicemailNotificationsGivenUp',
  'VoicemailQueueUnreachable',
  'VoicemailProcessDown',
  'VoicemailNoWorker',
  'VoicemailWorkerGone',
  'VoicemailBucketDenied',
  'VoicemailDependencyAway',
  'VoicemailQueuePaused',
  'VoicemailArchiverAbsent',
  'VoicemailMissing',
  'VoicemailAtRisk',
  'VoicemailDigestLate',
];

const DataSource = z.strictObject({
  type: z.literal('prometheus'),
  uid: z.string().regex(/^\$\{datasource\}$/),
});
const Position = z.strictObject({ x: z.int(), y: z.int(), w: z.int(), h: z.int() });
const Target = z.looseObject({
  refId: z.string().regex(/^[A-Z]$/),
  datasource: DataSource,
  expr: z.string().min(1),
  legendFormat: z.string(),
});
const Panel = z.looseObject({
  id: z.int(),
  title: z.string().min(1),
  description: z.string().min(1),
  datasource: DataSource,
  gridPos: Position,
  type: z.enum(['stat', 'timeseries', 'heatmap']),
  targets: z.array(Target).min(1),
});
const Row = z.looseObject({ id: z.int(), type: z.literal('row'), title: z.string(), gridPos: Position });
const Dashboard = z.looseObject({
  id: z.null(),
  uid: z.string().min(1),
  title: z.string().min(1),
  schemaVersion: z.literal(39),
  templating: z.object({ list: z.array(z.looseObject({ name: z.string(), type: z.string() })) }),
  panels: z.array(z.union([Row, Panel])),
});
const Rule = z.strictObject({
  alert: z.string(),
  expr: z.string(),
  for: z
    .string()
    .regex(/^\d+[mh]$/)
    .optional(),
  labels: z.strictObject({ severity: z.enum(['critical', 'warning']) }),
  annotations: z.strictObject({ summary: z.string().min(20), description: z.string().min(80) }),
});
const Rules = z.strictObject({
  groups: z.array(z.strictObject({ name: z.string(), rules: z.array(Rule) })).min(1),
});

/** A query, where it stands, and the text that is shown with its result. */
interface Query {
  readonly where: string;
  readonly expr: string;
  readonly text: string;
}

const dashboard = Dashboard.parse(
  JSON.parse(await readFile(new URL('grafana-dashboard.json', DEPLOY), 'utf8')),
);
const panels = dashboard.panels.filter((panel) => panel.type !== 'row') as z.infer<typeof Panel>[];
const rules = Rules.parse(
  parse(await readFile(new URL('prometheus-rules.yml', DEPLOY), 'utf8')),
).groups.flatMap((group) => group.rules);
const shown: Query[] = panels.flatMap(({ title, targets }) =>
  targets.map(({ refId, expr, legendFormat }) => ({
    where: `panel "${title}", query ${refId}`,
    expr: expr.replaceAll('$__rate_interval', '5m'),
    text: legendFormat,
  })),
);
const alerting: Query[] = rules.map(({ alert, expr, annotations }) => ({
  where: `alert ${alert}`,
  expr,
  text: `${annotations.summary} ${annotations.description}`,
}));
const queries = [...shown, ...alerting];

/** What is served by a process that has just started, and by one in which everything has happened. */
let fresh: MetricFamily[];
let served: MetricFamily[];

beforeAll(async () => {
  fresh = [...(await scrape(testMetrics().metrics)), UP];
  const { metrics } = testMetrics();
  reportEverything(metrics);
  served = [...(await scrape(metrics)), UP];
});

function allSelectors(): { where: string; selector: Selector }[] {
  return queries.flatMap(({ where, expr }) =>
    readPromql(expr).selectors.map((selector) => ({ where, selector })),
  );
}

function familyOf(selector: Selector): MetricFamily {
  const family = served.find((candidate) => sampleNames(candidate).includes(selector.metric));
  if (!family) throw new Error(`no metric "${selector.metric}" is served`);
  return family;
}

function samplesOf(families: readonly MetricFamily[], { metric }: Selector): Sample[] {
  return families.flatMap(({ samples }) => samples).filter(({ name }) => name === metric);
}

function labelsOf(selector: Selector): string[] {
  const labels = samplesOf(served, selector).flatMap((sample) => Object.keys(sample.labels));
  return [...new Set(labels), ...TARGET_LABELS];
}

function ownMatchers({ matchers }: Selector): Matcher[] {
  return matchers.filter(({ label }) => !TARGET_LABELS.includes(label));
}

function selects(selector: Selector, { labels }: Sample): boolean {
  return ownMatchers(selector).every((matcher) => matches(matcher, labels[matcher.label] ?? ''));
}

describe('the queries of the dashboard and the rules', () => {
  it('the queries read only metrics and labels that are served', () => {
    for (const { where, expr } of queries) {
      const { selectors } = readPromql(expr);
      expect(selectors.length, where).toBeGreaterThan(0);
      for (const selector of selectors) {
        expect(samplesOf(served, selector).length, `${where}: ${selector.metric}`).toBeGreaterThan(0);
        for (const { label } of selector.matchers) expect(labelsOf(selector), where).toContain(label);
      }
    }
  });

  it('the queries select series that exist, with label values that are served', () => {
    for (const { where, selector } of allSelectors()) {
      const samples = samplesOf(served, selector);
      expect(
        samples.some((sample) => selects(selector, sample)),
        where,
      ).toBe(true);
      for (const { label, op, value } of ownMatchers(selector)) {
        const values = samples.map(({ labels }) => labels[label] ?? '');
        // Of the two spellings of a bucket, one is that of another version of Prometheus.
        const named = (op.includes('~') ? value.split('|') : [value]).filter((name) => !name.includes('[.]'));
        for (const name of named) expect(values, `${where}: ${label}`).toContain(name);
      }
    }
  });

  it('the queries group by labels that are there, and show only labels that are left', () => {
    for (const { where, expr, text } of queries) {
      const { selectors, groupings } = readPromql(expr);
      for (const { labels, selectors: grouped } of groupings) {
        for (const selector of grouped) {
          expect(labelsOf(selector), where).toEqual(expect.arrayContaining([...labels]));
        }
      }
      const left =
        groupings.length > 0 ? groupings.flatMap(({ labels }) => labels) : selectors.flatMap(labelsOf);
      const used = [...text.matchAll(/\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}/g)].map(([, label]) => label);
      expect(left, where).toEqual(expect.arrayContaining(used));
    }
  });

  it('the queries take rates of counters, never of gauges', () => {
    for (const { where, selector } of allSelectors()) {
      const isCounter = familyOf(selector).type !== 'gauge';
      const [applied = ''] = selector.within;
      expect(['rate', 'increase'].includes(applied), where).toBe(isCounter);
      const ranged = isCounter || applied.endsWith('_over_time');
      expect(selector.hasRange, `${where}: ${selector.metric}`).toBe(ranged);
    }
  });

  it('the queries never add up what every process reports of the same queue', () => {
    const ofQueue = allSelectors().filter(({ selector }) => selector.metric.startsWith('voicemail_queue_'));

    expect(ofQueue.length).toBeGreaterThan(5);
    for (const { where, selector } of ofQueue) expect(['min', 'max'], where).toContain(selector.within[0]);
  });

  it('the queries keep the buckets of a histogram apart where they ask for a quantile', () => {
    for (const { where, expr } of queries) {
      const { selectors, groupings } = readPromql(expr);
      for (const selector of selectors.filter(({ within }) => within.includes('histogram_quantile'))) {
        const around = groupings.filter((grouping) => grouping.selectors.includes(selector));
        expect(around.length, where).toBeGreaterThan(0);
        for (const { labels } of around) expect(labels, where).toContain('le');
      }
    }
  });

  it('the queries do not use a sum that can fall', () => {
    const metrics = allSelectors().map(({ selector }) => selector.metric);

    expect(metrics).not.toContain('voicemail_download_time_to_expiry_seconds_sum');
  });

  it('the queries show every metric of ours', () => {
    const used = new Set(allSelectors().map(({ selector }) => selector.metric));
    const ours = served.filter(({ name }) => name.startsWith('voicemail_'));
    const forgotten = ours.filter((family) => !sampleNames(family).some((name) => used.has(name)));

    expect(forgotten.map(({ name }) => name).sort()).toEqual(Object.keys(NOT_SHOWN).sort());
  });
});

describe('the alert rules', () => {
  it('the alert rules are the expected ones', () => {
    expect(rules.map(({ alert }) => alert)).toEqual(ALERTS);
  });

  it('the alert rules look at series that are there from the start, so that the first increment is seen', () => {
    for (const { where, expr } of alerting) {
      for (const selector of readPromql(expr).selectors) {
        const series = samplesOf(fresh, selector).filter((sample) => selects(selector, sample));
        expect(series.length, `${where}: ${selector.metric}`).toBeGreaterThan(0);
      }
    }
  });

  it('the alert rules tell one archiver from another', () => {
    for (const { where, expr } of alerting) {
      const { groupings, selectors } = readPromql(expr);
      // What is not there has no labels.
      if (selectors[0]?.within[0] === 'absent') continue;
      expect(groupings.length, where).toBeGreaterThan(0);
      for (const { labels } of groupings) expect(labels, where).toContain('job');
    }
  });
});

describe('the dashboard', () => {
  it('the dashboard has the rows it should have, each with panels', () => {
    const titles = dashboard.panels.filter(({ type }) => type === 'row').map(({ title }) => title);

    expect(titles).toEqual(ROWS);
    dashboard.panels.forEach(({ type }, index) => {
      if (type === 'row') expect(dashboard.panels[index + 1]?.type).toMatch(/stat|timeseries|heatmap/);
    });
  });

  it('the dashboard has panels with ids of their own that do not overlap', () => {
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
    const taken = new Set<string>();
    for (const { title, gridPos } of dashboard.panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          expect(taken.has(`${x},${y}`), title).toBe(false);
          taken.add(`${x},${y}`);
        }
      }
    }
  });

  it('the dashboard asks for the data source and the archiver, and every query keeps to that archiver', () => {
    expect(dashboard.templating.list.map(({ name, type }) => [name, type])).toEqual([
      ['datasource', 'datasource'],
      ['job', 'query'],
    ]);
    for (const { expr, where } of shown) {
      for (const { matchers } of readPromql(expr).selectors) {
        expect(matchers, where).toContainEqual({ label: 'job', op: '=~', value: '$job' });
      }
    }
  });
});

describe('the query parser of these tests', () => {
  it('the query parser of these tests finds selectors, ranges, functions and groupings', () => {
    const { selectors, groupings } = readPromql(
      'sum by (a, b) (rate(x_total{c="1",d!~"2|3"}[5m])) / on (a) group_left () max(y) > bool 1.5e3 and time() - z',
    );

    expect(selectors).toEqual([
      {
        metric: 'x_total',
        matchers: [
          { label: 'c', op: '=', value: '1' },
          { label: 'd', op: '!~', value: '2|3' },
        ],
        hasRange: true,
        within: ['rate', 'sum'],
      },
      { metric: 'y', matchers: [], hasRange: false, within: ['max'] },
      { metric: 'z', matchers: [], hasRange: false, within: [] },
    ]);
    expect(groupings.map(({ labels }) => labels)).toEqual([['a', 'b'], []]);
  });

  it.each([['sum without (a) (x)'], ['sum(x'], ['sum(x))'], ['x{a}'], ['x{a="1"'], ['x ? y']])(
    'the query parser of these tests refuses %s',
    (query) => {
      expect(() => readPromql(query)).toThrow();
    },
  );
});
