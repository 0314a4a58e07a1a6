import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const DEPLOY = join(import.meta.dirname, '../../deploy');
/** Of Prometheus (Debian: prometheus), which the CI installs. */
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;

it.runIf(hasPromtool)('the alerts fire within five minutes, and are silent while all is well', async () => {
  const { stdout } = await promisify(execFile)('promtool', ['test', 'rules', 'prometheus-rules-test.yml'], {
    cwd: DEPLOY,
  });

  expect(stdout).toContain('SUCCESS');
});

it.each([
  'VoicemailProcessDown',
  'VoicemailNoWorker',
  'VoicemailWorkerGone',
  'VoicemailArchiverAbsent',
  'VoicemailBucketDenied',
  'VoicemailDependencyAway',
  'VoicemailQueuePaused',
  'VoicemailQueueUnreachable',
  'VoicemailMissing',
  'VoicemailAtRisk',
  'VoicemailDigestLate',
])('%s is among the alerts that are tested so', (alert) => {
  const tests = readFileSync(join(DEPLOY, 'prometheus-rules-test.yml'), 'utf8');

  expect(tests).toContain(`alertname="${alert}"`);
});
