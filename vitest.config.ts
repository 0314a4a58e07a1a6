import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/setup/longest-first.ts';

// The tests start the program a hundred times: compiled code that is kept halves what a start costs.
process.env.NODE_COMPILE_CACHE ??= join(import.meta.dirname, 'node_modules/.cache/node-compile-cache');

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup/global.ts'],
    // Processes, not threads, as tests send signals. One runs many files, since the start of one and the loading of the
    // libraries cost more than many a file: so no file leaves anything behind in its process.
    pool: 'forks',
    isolate: false,
    sequence: { sequencer: LongestFirst },
    // Many tests wait for servers and clocks rather than for a processor: six keep two cores busy.
    maxWorkers: 6,
    // Generous, as the machine may have much else to do: no verdict depends on how fast it is.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 60_000 } },
    reporters: ['default'],
  },
});
