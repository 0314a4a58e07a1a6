import { defineConfig } from 'vitest/config';

/** Tests that start no server and no program, for the time between two edits: `npm run test:fast`. */
const WITHOUT_SERVERS = [
  'verification/checkpoint',
  'config/*',
  'deploy/kubernetes',
  'deploy/systemd',
  'docs/configuration',
  'docs/dependency-rules',
  'docs/error-codes',
  'docs/notifications',
  'jobs/embedded-links',
  'kore/client',
  'kore/listings',
  'kore/url-expiry',
  'kore/voicemail*',
  'notifications/notices',
  'sandbox/*',
  'signing/canonical-json',
  'util/*',
  'cli/owner',
  'cli/session-list',
  'observability/deploy',
  'observability/metrics',
  'operations/health',
  'storage/documents',
  'storage/buffer-pool',
  'storage/s3-listing-answer',
  'storage/layout',
  'transfer/audio*',
  'transfer/destination',
  'transfer/integrity',
  'transfer/memory',
  'transfer/part-walker',
  'transfer/redirect',
  'workers/breaker',
  'workers/failure-policy',
  'workers/settle-times',
];

export default defineConfig({
  test: {
    include: WITHOUT_SERVERS.map((name) => `test/${name}.test.ts`),
    // They share their processes, as all tests do: see vitest.config.ts.
    isolate: false,
    testTimeout: 120_000,
    expect: { poll: { timeout: 60_000 } },
    reporters: ['default'],
  },
});
