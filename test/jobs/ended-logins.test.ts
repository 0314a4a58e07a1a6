/** Which logins were ended is known wherever the queue is, for as long as they would have lasted. */

import { expect, it } from 'vitest';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createTestQueue, describeOnEachQueue, silent } from '../support/queues.ts';

describeOnEachQueue('logins that were ended', (kind) => {
  it('ended logins are known to the next process, and forgotten when they expire', async () => {
    const test = await createTestQueue(kind);
    const open = async () => {
      const backend = await openBackend(test.config, silent);
      const queue = new SessionQueue(backend, test.config.name, silent);
      await queue.ready();
      const close = async () => {
        await queue.close();
        await backend.close();
      };
      return { queue, close };
    };
    try {
      const first = await open();
      await first.queue.endLogin('one', 600_000);
      await first.queue.endLogin('one', 600_000);
      await first.queue.endLogin('over', 1);
      await first.close();

      const { queue, close } = await open();
      expect(await queue.isLoginEnded('one')).toBe(true);
      expect(await queue.isLoginEnded('two')).toBe(false);
      await expect.poll(() => queue.isLoginEnded('over')).toBe(false);
      await queue.endLogin('two', 600_000);
      expect(await queue.isLoginEnded('one')).toBe(true);
      await close();
    } finally {
      await test.remove();
    }
  });
});
