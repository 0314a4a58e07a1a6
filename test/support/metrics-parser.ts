/** One line with a value. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A metric with all its lines. */
export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram' | 'summary' | 'untyped';
  readonly samples: readonly Sample[];
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const HELP_LINE = new RegExp(`^# HELP (${NAME}) (\\S.*)$`);
const TYPE_LINE = new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram|summary|untyped)$`);
const SAMPLE_LINE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`);
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(,|$)/y;
const VALUE = /^([-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?inf|nan)$/i;

/**
 * Parses Prometheus' text format (version 0.0.4), stricter than Prometheus itself: each family has its HELP and
 * TYPE, then all its samples and nothing else, no sample twice, and the buckets of a histogram add up.
 * https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */
export function parseExposition(text: string): MetricFamily[] {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const families = new Map<string, MetricFamily & { samples: Sample[] }>();
  const seen = new Set<string>();
  const lines = text.split('\n').filter((line) => line !== '');
  let current: (MetricFamily & { samples: Sample[] }) | undefined;
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index] ?? '';
    if (line.startsWith('#')) {
      const [, name = '', help = ''] = HELP_LINE.exec(line) ?? fault(line, 'is no HELP line');
      index += 1;
      const [, typed, type] = TYPE_LINE.exec(lines[index] ?? '') ?? fault(line, 'has no TYPE line after it');
      if (typed !== name) fault(line, 'is followed by the TYPE of another metric');
      if (families.has(name)) fault(line, 'comes for the second time');
      current = { name, help, type: type as MetricFamily['type'], samples: [] };
      families.set(name, current);
      continue;
    }
    const sample = parseSample(line);
    if (!current || !sampleNames(current).includes(sample.name)) {
      throw new Error(`"${line}" does not belong to the metric before it`);
    }
    const series = seriesOf(sample);
    if (seen.has(series)) fault(line, 'comes for the second time');
    seen.add(series);
    current.samples.push(sample);
  }
  for (const family of families.values()) if (family.type === 'histogram') checkHistogram(family);
  return [...families.values()];
}

/** The names that samples of a family may have. */
export function sampleNames({ name, type }: Pick<MetricFamily, 'name' | 'type'>): string[] {
  if (type === 'histogram') return [`${name}_bucket`, `${name}_sum`, `${name}_count`];
  if (type === 'summary') return [name, `${name}_sum`, `${name}_count`];
  return [name];
}

/** The value of the one series with exactly these labels. */
export function sampleValue(
  families: readonly MetricFamily[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const wanted = seriesOf({ name, labels });
  return families.flatMap(({ samples }) => samples).find((sample) => seriesOf(sample) === wanted)?.value;
}

function parseSample(line: string): Sample {
  const [, name = '', body = '', value = ''] = SAMPLE_LINE.exec(line) ?? fault(line, 'is no sample');
  if (!VALUE.test(value)) fault(line, 'has no number as its value');
  return { name, labels: parseLabels(body, line), value: number(value) };
}

function parseLabels(body: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < body.length) {
    const [, name = '', value = ''] = LABEL.exec(body) ?? fault(line, 'has labels that cannot be read');
    if (name in labels) fault(line, 'has a label twice');
    labels[name] = value.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
  }
  return labels;
}

function number(text: string): number {
  const infinity = /^([-+]?)inf$/i.exec(text);
  if (infinity) return infinity[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  return Number(text);
}

function checkHistogram({ name, samples }: MetricFamily): void {
  const bySeries = Map.groupBy(samples, ({ labels: { le: _, ...others } }) =>
    seriesOf({ name, labels: others }),
  );
  for (const [series, ofSeries] of bySeries) {
    const buckets = ofSeries.filter((sample) => sample.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => number(labels.le ?? ''));
    const counts = buckets.map(({ value }) => value);
    const count = ofSeries.find((sample) => sample.name === `${name}_count`)?.value;
    const sum = ofSeries.find((sample) => sample.name === `${name}_sum`)?.value;
    const isSound =
      isRising(bounds) && isRising(counts) && bounds.at(-1) === Infinity && counts.at(-1) === count;
    if (!isSound || sum === undefined) fault(series, 'is a histogram that does not add up');
  }
}

function isRising(numbers: readonly number[]): boolean {
  return numbers.every((value, index) => index === 0 || value >= (numbers[index - 1] ?? NaN));
}

function seriesOf({ name, labels }: Pick<Sample, 'name' | 'labels'>): string {
  return `${name}${JSON.stringify(Object.entries(labels).sort())}`;
}

function fault(line: string, what: string): never {
  throw new Error(`"${line}" ${what}`);
}
