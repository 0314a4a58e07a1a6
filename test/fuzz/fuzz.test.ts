import { expect, it } from 'vitest';
import { fuzz } from './fuzz.ts';
import { FUZZ_TARGETS } from './targets.ts';

/** As many of each kind as fit into a run of all tests; `npm run fuzz` feeds more. */
const INPUTS = 100;
/** Processor time that an input costs only where its length is squared, on a slow machine as well. */
const FREEZE_MS = 5_000;

it.each(Object.keys(FUZZ_TARGETS))('broken input does not break what reads it: %s', async (name) => {
  const limit = { milliseconds: Number.POSITIVE_INFINITY, inputs: INPUTS, freezeMs: FREEZE_MS };
  const { faults, inputs } = await fuzz(name, 'short', limit);

  expect(faults).toEqual([]);
  expect(inputs).toBe(INPUTS);
});
