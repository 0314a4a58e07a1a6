/**
 * A process of its own that tries to replace one version of a file, many times at once: prints one line when it is
 * ready, waits for its standard input to end, and prints how many of its writes were stored and how many refused.
 *
 * Arguments: the archive's directory, the key, the version, how many writes.
 */

import { text } from 'node:stream/consumers';
import { isVoicemailError } from '../../src/domain/errors.ts';
import { createDirectoryStore } from '../../src/storage/fs/store.ts';

const [directory = '', key = '', version = '', count = ''] = process.argv.slice(2);
const store = createDirectoryStore(directory);
console.log('ready');
await text(process.stdin);
const outcomes = await Promise.all(
  Array.from({ length: Number(count) }, async (_, index) => {
    const body = Buffer.from(`written by ${process.pid}, number ${index}`);
    const info = { contentType: 'text/plain' };
    return store.write(key, body, info, { over: version }, new AbortController().signal).then(
      (outcome) => ({ outcome, body: body.toString() }),
      (error: unknown) => ({ outcome: isVoicemailError(error) ? error.code : String(error) }),
    );
  }),
);
console.log(JSON.stringify(outcomes));
