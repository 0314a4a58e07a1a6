import { expect, it } from 'vitest';
import { runChaos } from './chaos.ts';

it('three workers lose nothing and store nothing twice while everything around them fails', async () => {
  const { faults, caused } = await runChaos({
    seed: 'short',
    queue: 'redis',
    sessions: 25,
    faultsMs: 8_000,
    mayBeSilent: false,
    // Longer than locks of killed workers and pauses last, on a busy machine as well.
    settleMs: 240_000,
  });

  expect(faults).toEqual([]);
  expect(Object.keys(caused).length).toBeGreaterThan(0);
}, 300_000);
