/** The program's parts put together for a test: a sandbox, a queue and an archive in a directory. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config, KoreConfig, QueueConfig } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';

/** The environment of a program that is to use the sandbox, with pauses short enough for a test. */
export function sandboxEnvironment(sandbox: Sandbox): Record<string, string> {
  return {
    KORE_HOST: sandbox.url,
    KORE_BOT_ID: sandbox.botId,
    KORE_CLIENT_ID: sandbox.clientId,
    KORE_CLIENT_SECRET: sandbox.clientSecret,
    KORE_MEDIA_HOSTS: '127.0.0.1',
    KORE_ALLOW_PRIVATE_MEDIA: 'true',
    KORE_RATE_LIMIT: '10000/1s',
    POLL_DELAY: '50ms',
    RETRY_DELAY: '50ms',
    SESSION_WAIT: '0',
    HTTP_PORT: '0',
  };
}

/** The configuration for the given environment and queue. */
export function testConfig(
  environment: Readonly<Record<string, string>>,
  queue: QueueConfig,
): { config: Config; kore: KoreConfig } {
  const config = { ...loadConfig(environment, { needs: ['kore'] }), queue };
  if (!config.kore) throw new Error('Kore was asked for');
  return { config, kore: config.kore };
}

/** A directory of a test's own. */
export async function temporaryDirectory(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'voicemail-archiver-test-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}
