import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

// The tests start the program a hundred times: compiled code that is kept halves what a start costs.
process.env.NODE_COMPILE_CACHE ??= join(import.meta.dirname, 'node_modules/.cache/node-compile-cache');

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup/global.ts'],
    // Processes, not threads: tests send signals, and a crash takes only its own file along.
    pool: 'forks',
    // Many tests wait for servers and clocks rather than for a processor.
    maxWorkers: 4,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // The default of a second is little on a machine with much else to do.
    expect: { poll: { timeout: 15_000 } },
    reporters: ['default'],
  },
});
