import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { wavOf } from '../support/audio.ts';
import type { RunningCli } from '../support/cli.ts';
import { KilledPrograms, urlOf } from '../support/killed-programs.ts';
import { isSigned, type Receiver, SECRET, startReceiver } from '../support/notification-receiver.ts';
import { sandboxEnvironment, temporaryDirectory } from '../support/services.ts';

const TIMEOUT_MS = 240_000;
const GOOD = 60;
const BAD = 6;
/** Requests at the receiver after which the program is killed, each time counted anew. */
const KILLS = [1, 9, 23];

let sandbox: Sandbox;
let receiver: Receiver;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let programs: KilledPrograms;

beforeEach(async () => {
  [sandbox, receiver, directory] = await Promise.all([startSandbox(), startReceiver(), temporaryDirectory()]);
  programs = new KilledPrograms();
});

afterEach(async () => {
  await programs.close();
  await Promise.all([sandbox.close(), receiver.close()]);
  await directory.remove();
});

it('no notification is lost to SIGKILL, whatever the program was doing', {
  timeout: TIMEOUT_MS,
}, async () => {
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
    await programs.forgetLocks();
    program = await start();
  }
  receiver.behave(() => 204);
  const expected = [
    ...good.flatMap((id) => [`archived ${id}`, `transcript ${id}`]),
    ...bad.map((id) => `failed ${id}`),
  ];
  await receiver.until((now) => {
    const delivered = new Set(deliveredBy(now));
    return expected.every((one) => delivered.has(one));
  });
  program.kill('SIGTERM');
  await program.ended;

  expect(new Set(deliveredBy(receiver))).toEqual(new Set(expected));
  expect(receiver.received.filter((one) => !isSigned(one))).toEqual([]);
  // A receiver that drops known ids gets each event once, however often a session was worked on.
  expect(receiver.taken().size).toBe(expected.length);
  const { log } = programs;
  for (const secret of [SECRET, 'hook-key', 'Please call me back']) expect(log).not.toContain(secret);
  for (const { raw } of receiver.received) expect(raw.toString()).not.toMatch(/call me back|[?&](e|n|s)=/);
});

function deliveredBy(now: Receiver): string[] {
  return [...now.taken().values()].map(({ body }) =>
    body.event === 'completeness' ? body.event : `${body.event} ${body.session.sessionId}`,
  );
}

async function start(): Promise<RunningCli> {
  const program = programs.start({
    ...sandboxEnvironment(sandbox),
    ARCHIVE_URL: `file:${directory.path}`,
    MAX_RECORDING_BYTES: '50000B',
    SETTLE_WAIT: '0',
    WORKER_CONCURRENCY: '4',
    NOTIFY_URL: receiver.url,
    NOTIFY_SECRET: SECRET,
    NOTIFY_ALLOW_PRIVATE: 'true',
    LOG_LEVEL: 'debug',
  });
  await urlOf(program);
  return program;
}

async function enqueue(program: RunningCli, sessionIds: readonly string[]): Promise<void> {
  const response = await fetch(`${await urlOf(program)}/v1/sessions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sessionIds }),
  });
  expect(response.status).toBe(202);
}
