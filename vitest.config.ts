import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup/global.ts'],
    // Processes, not threads: tests send signals, and a crash takes only its own file along.
    pool: 'forks',
    // Many tests wait for servers and clocks rather than for a processor.
    maxWorkers: 3,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: ['default'],
  },
});
