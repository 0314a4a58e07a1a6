import type { Source } from './source.ts';

/** How a store turns the errors of its library into those an `ArchiveStore` throws. */
export type Translate = (error: unknown) => unknown;

/**
 * Runs `work` and lets out only what the interface promises: the signal's own reason after an abort, what the
 * body threw as it is, everything else translated.
 */
export async function guarded<Result>(
  translate: Translate,
  signal: AbortSignal,
  work: () => Promise<Result>,
  source?: Source,
): Promise<Result> {
  try {
    signal.throwIfAborted();
    return await work();
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw source?.failed ? error : translate(error);
  }
}
