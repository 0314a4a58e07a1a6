import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { wavOf } from '../support/audio.ts';
import { hasLogged, type RunningCli, startCli } from '../support/cli.ts';
import { isSigned, type Receiver, SECRET, startReceiver } from '../support/receiver.ts';
import { sandboxEnvironment, temporaryDirectory } from '../support/services.ts';

const TIMEOUT_MS = 240_000;
const GOOD = 60;
const BAD = 6;
/** Requests at the receiver after which the program is killed, each time counted anew. */
const KILLS = [1, 9, 23];

let sandbox: Sandbox;
let receiver: Receiver;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let prefix: string;
const programs: RunningCli[] = [];

beforeEach(async () => {
  [sandbox, receiver, directory] = await Promise.all([startSandbox(), startReceiver(), temporaryDirectory()]);
  prefix = `test-${randomUUID()}`;
});

afterEach(async () => {
  for (const program of programs.splice(0)) {
    program.kill('SIGKILL');
    await program.ended;
  }
  await Promise.all([sandbox.close(), receiver.close()]);
  await directory.remove();
  await withRedis(async (redis) => {
    const keys = await redis.keys(`${prefix}:*`);
    if (keys.length > 0) await redis.unlink(keys);
  });
});

it('loses no notification to SIGKILL, whatever the program was doing', { timeout: TIMEOUT_MS }, async () => {
  const good = Array.from({ length: GOOD }, () =>
    sandbox.addSession({ recordings: [{ content: wavOf(1_000) }], transcription: 'Please call me back.' }),
  );
  const bad = Array.from({ length: BAD }, () => sandbox.addSession({ recordings: [{ bytes: 100_000 }] }));
  // Half of them arrive; the others are on their way when the program is killed, or wait to be sent again.
  receiver.behave((_request, index) => (['hang', 500, 204, 204] as const)[index % 4] ?? 204);

  let program = await start();
  await enqueue(program, [...good.slice(0, GOOD / 2), ...bad, ...good.slice(GOOD / 2)]);
  for (const requests of KILLS) {
    const before = receiver.received.length;
    await receiver.until(({ received }) => received.length >= before + requests);
    program.kill('SIGKILL');
    await program.ended;
    await forgetLocks();
    program = await start();
  }
  receiver.behave(() => 204);
  const expected = [
    ...good.flatMap((id) => [`archived ${id}`, `transcript ${id}`]),
    ...bad.map((id) => `failed ${id}`),
  ];
  await receiver.until((now) => {
    const told = new Set(toldBy(now));
    return expected.every((one) => told.has(one));
  });
  program.kill('SIGTERM');
  await program.ended;

  expect(new Set(toldBy(receiver))).toEqual(new Set(expected));
  expect(receiver.received.filter((one) => !isSigned(one))).toEqual([]);
  // However often a session was worked on, who drops ids that came before hears each thing once.
  expect(receiver.taken().size).toBe(expected.length);
  const log = programs.map(({ stderr }) => stderr).join('');
  for (const secret of [SECRET, 'hook-key', 'Please call me back']) expect(log).not.toContain(secret);
  for (const { raw } of receiver.received) expect(raw.toString()).not.toMatch(/call me back|[?&](e|n|s)=/);
});

function toldBy(now: Receiver): string[] {
  return [...now.taken().values()].map(({ body }) =>
    body.event === 'completeness' ? body.event : `${body.event} ${body.session.sessionId}`,
  );
}

async function start(): Promise<RunningCli> {
  const program = startCli(['start'], {
    env: {
      ...sandboxEnvironment(sandbox),
      QUEUE_URL: inject('redisUrl'),
      QUEUE_PREFIX: prefix,
      ARCHIVE_URL: `file:${directory.path}`,
      MAX_RECORDING_BYTES: '50000B',
      SETTLE_WAIT: '0',
      WORKER_CONCURRENCY: '4',
      NOTIFY_URL: receiver.url,
      NOTIFY_SECRET: SECRET,
      NOTIFY_ALLOW_PRIVATE: 'true',
      LOG_LEVEL: 'debug',
    },
  });
  programs.push(program);
  await program.waitFor(hasLogged('taking sessions'));
  return program;
}

async function enqueue(program: RunningCli, sessionIds: readonly string[]): Promise<void> {
  const port = program.log.find(({ msg }) => msg === 'listening')?.port;
  const response = await fetch(`http://127.0.0.1:${port}/v1/sessions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sessionIds }),
  });
  expect(response.status).toBe(202);
}

/** What a killed worker had in hand is locked for a while; takes it that it has passed. */
async function forgetLocks(): Promise<void> {
  await withRedis(async (redis) => {
    const locks = await redis.keys(`${prefix}:*:lock`);
    if (locks.length > 0) await redis.unlink(locks);
  });
}

async function withRedis(use: (redis: Redis) => Promise<void>): Promise<void> {
  const redis = new Redis(inject('redisUrl'));
  try {
    await use(redis);
  } finally {
    await redis.quit();
  }
}
