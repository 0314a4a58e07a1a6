import { register } from 'prom-client';
import { describe, expect, it } from 'vitest';
import type { QueueStats } from '../../src/domain/requests.ts';
import { type MetricFamily, parseExposition, sampleValue } from '../support/metrics-parser.ts';
import { reportEverything, STATS, scrape, testMetrics } from '../support/metrics-samples.ts';

/** The labels there may be: none of them can have many values. */
const LABELS = [
  'day',
  'code',
  'dependency',
  'event',
  'expiry',
  'le',
  'outcome',
  'state',
  'status',
  'verdict',
  'version',
  'work',
];

function ours(families: readonly MetricFamily[]): MetricFamily[] {
  return families.filter(({ name }) => name.startsWith('voicemail_'));
}

describe('the metrics', () => {
  it('the metrics are in the text format that their content type announces', async () => {
    const { metrics } = testMetrics();
    reportEverything(metrics);

    expect(metrics.contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(ours(await scrape(metrics)).length).toBeGreaterThan(15);
  });

  it('the metrics follow the naming rules: base units, and _total for counters alone', async () => {
    const { metrics } = testMetrics();

    for (const { name, type, help } of ours(await scrape(metrics))) {
      expect(name).toMatch(/^voicemail_[a-z0-9]+(_[a-z0-9]+)*$/);
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      if (type === 'histogram') expect(name).toMatch(/_seconds$/);
      expect(name).not.toMatch(/milli|minute|hour|kilo|mega/);
      expect(help, name).toMatch(/^[A-Z].*\.$/);
    }
  });

  it('the metrics have few series, however much happens', async () => {
    const { metrics } = testMetrics();
    reportEverything(metrics);
    const before = ours(await scrape(metrics)).flatMap(({ samples }) => samples);
    for (let times = 0; times < 20; times += 1) reportEverything(metrics);
    const after = ours(await scrape(metrics)).flatMap(({ samples }) => samples);

    expect(after.length).toBe(before.length);
    expect(new Set(after.flatMap(({ labels }) => Object.keys(labels)))).toEqual(new Set(LABELS));
    expect(after.length).toBeLessThan(400);
  });

  it('the metrics include the process, Node.js and the version', async () => {
    const families = await scrape(testMetrics().metrics);

    expect(sampleValue(families, 'voicemail_build_info', { version: '1.2.3' })).toBe(1);
    expect(sampleValue(families, 'process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(sampleValue(families, 'process_resident_memory_bytes')).toBeGreaterThan(0);
    expect(sampleValue(families, 'nodejs_heap_size_used_bytes')).toBeGreaterThan(0);
  });

  it('the metrics belong to one createMetrics() alone', async () => {
    const [first, second] = [testMetrics().metrics, testMetrics().metrics];
    first.transfer.onResume();

    expect(sampleValue(await scrape(first), 'voicemail_download_resumes_total')).toBe(1);
    expect(sampleValue(await scrape(second), 'voicemail_download_resumes_total')).toBe(0);
    expect(await register.getMetricsAsJSON()).toEqual([]);
  });
});

describe('metrics of sessions', () => {
  const archived = {
    seconds: 3,
    alreadyArchived: false,
    recordings: 2,
    bytes: 1000,
    transcript: 'archived',
  } as const;

  it('an archived session counts with its recordings, bytes, time and transcript', async () => {
    const { metrics } = testMetrics();
    metrics.worker.onArchived(archived);
    const families = await scrape(metrics);

    expect(sampleValue(families, 'voicemail_sessions_total', { outcome: 'archived', code: 'none' })).toBe(1);
    expect(sampleValue(families, 'voicemail_recordings_archived_total')).toBe(2);
    expect(sampleValue(families, 'voicemail_recordings_archived_bytes_total')).toBe(1000);
    expect(sampleValue(families, 'voicemail_session_archive_duration_seconds_sum')).toBe(3);
    expect(sampleValue(families, 'voicemail_transcripts_total', { state: 'archived' })).toBe(1);
  });

  it('a session that had been archived before counts apart, without time and bytes', async () => {
    const { metrics } = testMetrics();
    metrics.worker.onArchived({ ...archived, alreadyArchived: true });
    const families = await scrape(metrics);

    expect(
      sampleValue(families, 'voicemail_sessions_total', { outcome: 'already-archived', code: 'none' }),
    ).toBe(1);
    expect(sampleValue(families, 'voicemail_sessions_total', { outcome: 'archived', code: 'none' })).toBe(0);
    expect(sampleValue(families, 'voicemail_recordings_archived_bytes_total')).toBe(0);
    expect(sampleValue(families, 'voicemail_session_archive_duration_seconds_count')).toBe(0);
    expect(sampleValue(families, 'voicemail_transcripts_total', { state: 'archived' })).toBe(0);
  });

  it('a failed session counts once, however many attempts it took', async () => {
    const { metrics } = testMetrics();
    const failed = { work: 'session', code: 'DOWNLOAD_FAILED' } as const;
    metrics.worker.onAttemptFailed({ ...failed, verdict: 'retry' });
    metrics.worker.onAttemptFailed({ ...failed, verdict: 'retry' });
    metrics.worker.onAttemptFailed({ ...failed, verdict: 'fail' });
    const families = await scrape(metrics);

    const ended = { outcome: 'failed', code: 'DOWNLOAD_FAILED' };
    expect(sampleValue(families, 'voicemail_sessions_total', ended)).toBe(1);
    const attempts = 'voicemail_attempts_failed_total';
    expect(sampleValue(families, attempts, { ...failed, verdict: 'retry' })).toBe(2);
    expect(sampleValue(families, attempts, { ...failed, verdict: 'fail' })).toBe(1);
  });

  it('a session does not count as failed when only its transcript is unavailable', async () => {
    const { metrics } = testMetrics();
    const failed = { work: 'transcript', code: 'KORE_BAD_RESPONSE', verdict: 'fail' } as const;
    metrics.worker.onAttemptFailed(failed);
    const families = await scrape(metrics);

    expect(sampleValue(families, 'voicemail_attempts_failed_total', failed)).toBe(1);
    const ended = { outcome: 'failed', code: 'KORE_BAD_RESPONSE' };
    expect(sampleValue(families, 'voicemail_sessions_total', ended)).toBe(0);
  });

  it('the transcript of a session counts once, when it is settled', async () => {
    const { metrics } = testMetrics();
    metrics.worker.onArchived({ ...archived, transcript: 'pending' });
    const pending = await scrape(metrics);
    metrics.worker.onTranscriptSettled('absent');
    const settled = await scrape(metrics);

    expect(sampleValue(pending, 'voicemail_transcripts_total', { state: 'archived' })).toBe(0);
    expect(sampleValue(pending, 'voicemail_transcripts_total', { state: 'pending' })).toBeUndefined();
    expect(sampleValue(settled, 'voicemail_transcripts_total', { state: 'absent' })).toBe(1);
  });
});

describe('metrics of downloads', () => {
  it.each([
    [-120, '0'],
    [0, '0'],
    [4.9, '5'],
    [5.1, '15'],
    [60, '60'],
    [299, '300'],
    [899, '900'],
    [3_599, '3600'],
    [21_599, '21600'],
    [86_399, '86400'],
    [172_799, '172800'],
    [200_000, '+Inf'],
  ])('a download begun with %d seconds left falls into the bucket up to %s', async (seconds, bound) => {
    const { metrics } = testMetrics();
    metrics.transfer.onStart(seconds);
    const family = (await scrape(metrics)).find(
      ({ name }) => name === 'voicemail_download_time_to_expiry_seconds',
    );

    const holding = family?.samples.find(({ labels, value }) => labels.le !== undefined && value === 1);
    expect(holding?.labels.le).toBe(bound);
  });

  it('a download of unknown expiry is counted and in no bucket', async () => {
    const { metrics } = testMetrics();
    metrics.transfer.onStart(undefined);
    metrics.transfer.onStart(10);
    const families = await scrape(metrics);

    expect(sampleValue(families, 'voicemail_downloads_started_total', { expiry: 'unknown' })).toBe(1);
    expect(sampleValue(families, 'voicemail_downloads_started_total', { expiry: 'known' })).toBe(1);
    expect(sampleValue(families, 'voicemail_download_time_to_expiry_seconds_count')).toBe(1);
  });

  it('a download reports bytes, resumes, fresh URLs and where the time went', async () => {
    const { metrics } = testMetrics();
    metrics.transfer.onBytes(65_536);
    metrics.transfer.onBytes(100);
    metrics.transfer.onUrlRefresh();
    metrics.transfer.onDone({ downloadSeconds: 4, uploadSeconds: 0.5 });
    const families = await scrape(metrics);

    expect(sampleValue(families, 'voicemail_download_bytes_total')).toBe(65_636);
    expect(sampleValue(families, 'voicemail_download_url_refreshes_total')).toBe(1);
    expect(sampleValue(families, 'voicemail_recording_download_seconds_sum')).toBe(4);
    expect(sampleValue(families, 'voicemail_recording_upload_seconds_sum')).toBe(0.5);
  });
});

describe("requests to the archive's bucket", () => {
  it('a request to the bucket that the SDK had to send again is counted', async () => {
    const { metrics } = testMetrics();
    expect(sampleValue(await scrape(metrics), 'voicemail_s3_fallbacks_total')).toBe(0);
    metrics.archive.onFallback();
    expect(sampleValue(await scrape(metrics), 'voicemail_s3_fallbacks_total')).toBe(1);
  });
});

describe('calls of the Kore API', () => {
  it('a call to the Kore API counts by status and code, with its time in seconds', async () => {
    const { metrics } = testMetrics();
    metrics.kore.onCall({ status: 200, milliseconds: 250 });
    metrics.kore.onCall({ status: 429, code: 'KORE_RATE_LIMITED', milliseconds: 250 });
    metrics.kore.onCall({ status: undefined, code: 'KORE_UNAVAILABLE', milliseconds: 500 });
    const families = await scrape(metrics);

    const calls = 'voicemail_kore_calls_total';
    expect(sampleValue(families, calls, { status: '200', code: 'none' })).toBe(1);
    expect(sampleValue(families, calls, { status: '429', code: 'KORE_RATE_LIMITED' })).toBe(1);
    expect(sampleValue(families, calls, { status: 'none', code: 'KORE_UNAVAILABLE' })).toBe(1);
    expect(sampleValue(families, 'voicemail_kore_call_duration_seconds_sum')).toBe(1);
  });

  it('a call that had to wait for the limit counts with its wait', async () => {
    const { metrics } = testMetrics();
    metrics.kore.onWait(0.5);
    metrics.kore.onWait(2);
    const families = await scrape(metrics);

    expect(sampleValue(families, 'voicemail_kore_call_limit_wait_seconds_count')).toBe(2);
    expect(sampleValue(families, 'voicemail_kore_call_limit_wait_seconds_sum')).toBe(2.5);
  });
});

describe('the queue', () => {
  const QUEUE_NUMBERS = [
    'voicemail_queue_sessions',
    'voicemail_queue_oldest_age_seconds',
    'voicemail_queue_transcripts_pending',
    'voicemail_queue_paused',
    'voicemail_workers',
    'voicemail_notifications_pending',
  ];

  it('the queue is counted when metrics are read', async () => {
    const families = await scrape(testMetrics().metrics);

    expect(sampleValue(families, 'voicemail_queue_up')).toBe(1);
    expect(sampleValue(families, 'voicemail_workers')).toBe(2);
    for (const [state, count] of Object.entries(STATS.states)) {
      expect(sampleValue(families, 'voicemail_queue_sessions', { state })).toBe(count);
    }
    expect(sampleValue(families, 'voicemail_queue_transcripts_pending')).toBe(6);
    expect(sampleValue(families, 'voicemail_queue_paused')).toBe(0);
    const paused = await scrape(testMetrics({ stats: async () => ({ ...STATS, paused: true }) }).metrics);
    expect(sampleValue(paused, 'voicemail_queue_paused')).toBe(1);
    expect(sampleValue(families, 'voicemail_notifications_pending')).toBe(8);
    const age = sampleValue(families, 'voicemail_queue_oldest_age_seconds') ?? NaN;
    expect(age).toBeGreaterThanOrEqual(90);
    expect(age).toBeLessThan(600);
  });

  it('an empty queue has an age of 0, and a clock that is ahead makes none below', async () => {
    const { oldestQueuedAt: _, ...idle } = STATS;
    const ahead = { ...STATS, oldestQueuedAt: new Date(Date.now() + 600_000).toISOString() };

    for (const stats of [idle, ahead]) {
      const families = await scrape(testMetrics({ stats: async () => stats }).metrics);
      expect(sampleValue(families, 'voicemail_queue_oldest_age_seconds')).toBe(0);
    }
  });

  it('a queue that cannot be reached is reported as such, and its last numbers are not repeated', async () => {
    let isDown = false;
    const { metrics, logged } = testMetrics({
      stats: async () => {
        if (isDown) throw new Error('connect ECONNREFUSED');
        return STATS;
      },
      queueFreshMs: 0,
    });
    metrics.transfer.onResume();
    await metrics.render();
    isDown = true;
    const down = await scrape(metrics);
    await metrics.render();
    isDown = false;
    const upAgain = await scrape(metrics);

    expect(sampleValue(down, 'voicemail_queue_up')).toBe(0);
    for (const name of QUEUE_NUMBERS) {
      expect(down.find((family) => family.name === name)?.samples, name).toEqual([]);
    }
    expect(sampleValue(down, 'voicemail_download_resumes_total')).toBe(1);
    expect(sampleValue(upAgain, 'voicemail_queue_up')).toBe(1);
    expect(sampleValue(upAgain, 'voicemail_queue_sessions', { state: 'queued' })).toBe(7);
    expect(logged.map((line) => JSON.parse(line).level)).toEqual(['warn', 'info']);
    expect(logged[0]).toContain('ECONNREFUSED');
  });

  it('a queue that could never be reached reports no numbers', async () => {
    const { metrics } = testMetrics({ stats: () => Promise.reject(new Error('away')) });
    const families = await scrape(metrics);

    for (const name of QUEUE_NUMBERS) {
      expect(families.find((family) => family.name === name)?.samples, name).toEqual([]);
    }
  });

  it('a queue that does not answer is waited for only briefly, and not asked a second time', async () => {
    const answer = Promise.withResolvers<QueueStats>();
    let asked = 0;
    const { metrics } = testMetrics({
      stats: () => {
        asked += 1;
        return answer.promise;
      },
      queueTimeoutMs: 20,
    });
    const first = await scrape(metrics);
    const second = await scrape(metrics);

    expect(sampleValue(first, 'voicemail_queue_up')).toBe(0);
    expect(sampleValue(second, 'voicemail_queue_up')).toBe(0);
    expect(asked).toBe(1);

    answer.resolve(STATS);
    expect(sampleValue(await scrape(metrics), 'voicemail_queue_up')).toBe(1);
  });

  it('the queue is counted once for all who read at the same time, or shortly after', async () => {
    let asked = 0;
    const stats = async () => {
      asked += 1;
      return STATS;
    };
    const { metrics } = testMetrics({ stats, queueFreshMs: 60_000 });
    await Promise.all(Array.from({ length: 10 }, () => metrics.render()));
    await metrics.render();

    expect(asked).toBe(1);
  });

  it('the queue is counted again once a count is no longer fresh', async () => {
    let asked = 0;
    const stats = async () => {
      asked += 1;
      return STATS;
    };
    const { metrics } = testMetrics({ stats, queueFreshMs: 0 });
    await metrics.render();
    await metrics.render();

    expect(asked).toBe(2);
  });
});

describe('the metrics parser of these tests', () => {
  const HEAD = '# HELP a_total Help.\n# TYPE a_total counter\n';

  it('the metrics parser of these tests reads labels with everything escaped in them', () => {
    const [family] = parseExposition(`${HEAD}a_total{x="a\\"b\\\\c\\nd,}",y=""} 1e3\n`);

    expect(family?.samples).toEqual([{ name: 'a_total', labels: { x: 'a"b\\c\nd,}', y: '' }, value: 1000 }]);
  });

  it.each([
    ['an unfinished line', `${HEAD}a_total 1`],
    ['a sample without its family', 'a_total 1\n'],
    ['a family without a TYPE', '# HELP a_total Help.\na_total 1\n'],
    ['a sample of another family', `${HEAD}b_total 1\n`],
    ['the same family twice', `${HEAD}${HEAD}`],
    ['the same series twice', `${HEAD}a_total{x="1",y="2"} 1\na_total{y="2",x="1"} 1\n`],
    ['a value that is no number', `${HEAD}a_total one\n`],
    ['a label without quotes', `${HEAD}a_total{x=1} 1\n`],
    ['a label twice', `${HEAD}a_total{x="1",x="2"} 1\n`],
    ['a histogram without +Inf', '# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\nh_count 1\n'],
    [
      'falling buckets',
      '# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
    ],
  ])('the metrics parser of these tests refuses %s', (_, text) => {
    expect(() => parseExposition(text)).toThrow();
  });
});
