/** What docs/notifications.md tells receivers to do, done with a notification that the program sent. */

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSender } from '../../src/notifications/send.ts';
import { findProgram, searchPath } from '../setup/process.ts';
import { notifyConfig, type Received, SECRET, startReceiver } from '../support/notification-receiver.ts';
import { temporaryDirectory } from '../support/services.ts';

const run = promisify(execFile);
const GUIDE = readFileSync(join(import.meta.dirname, '../../docs/notifications.md'), 'utf8');
const OPENSSL = findProgram('openssl', searchPath());

let received: Received;

beforeAll(async () => {
  const receiver = await startReceiver();
  const sender = createSender({ notify: notifyConfig(receiver), timeoutMs: 20_000 });
  const session = {
    botId: 'st-1',
    sessionId: 's-1',
    state: 'archived',
    manifestKey: 'Zoë/ü "quoted"',
  } as const;
  const notification = {
    id: 'archived-1',
    event: 'archived',
    at: '2026-01-05T09:30:00.000Z',
    session,
  } as const;
  await sender.send(notification, new AbortController().signal);
  const [first] = receiver.received;
  if (!first) throw new Error('nothing came');
  received = first;
  await sender.close();
  await receiver.close();
});

/** The code block of a language that is about signatures. */
function block(language: string, word: string): string {
  const blocks = [...GUIDE.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs'))].map(
    ([, code = '']) => code,
  );
  const found = blocks.find((code) => code.includes(word));
  if (found === undefined) throw new Error(`no ${language} block with ${word}`);
  return found;
}

describe('the signature', () => {
  test('the signature is checked by the example in JavaScript', () => {
    const code = block('js', 'isAuthentic').replace(
      /import (\{.*?\}) from '(.*?)';/g,
      "const $1 = require('$2');",
    );
    const make = new Function('require', `${code}\nreturn isAuthentic;`);
    const isAuthentic = make(createRequire(import.meta.url)) as (
      body: Buffer,
      signature: string,
      secret: string,
    ) => boolean;
    const signature = String(received.headers['x-signature']);
    expect(isAuthentic(received.raw, signature, SECRET)).toBe(true);
    expect(isAuthentic(Buffer.from(`${received.raw} `), signature, SECRET)).toBe(false);
    expect(isAuthentic(received.raw, signature, 'another secret')).toBe(false);
    expect(isAuthentic(received.raw, '', SECRET)).toBe(false);
  });

  describe.skipIf(OPENSSL === undefined)(OPENSSL ? 'with OpenSSL' : 'OpenSSL is not installed', () => {
    let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
    beforeAll(async () => {
      directory = await temporaryDirectory();
      await writeFile(join(directory.path, 'body.json'), received.raw);
    });
    afterAll(() => directory.remove());

    test('the signature is what the example in the shell prints', async () => {
      const { stdout } = await run('sh', ['-c', block('sh', 'body.json')], {
        cwd: directory.path,
        env: { PATH: searchPath().join(':'), NOTIFY_SECRET: SECRET },
      });
      expect(stdout.trim()).toBe(received.headers['x-signature']);
    });
  });
});

test('the guide names each event and both headers', () => {
  for (const event of notifyConfig({ url: '' }).events) expect(GUIDE).toContain(`| \`${event}\` |`);
  for (const header of ['X-Notification-Id', 'X-Signature']) expect(GUIDE).toContain(header);
});
