import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ListenError } from '../../src/api/http-server.ts';
import { createProbes } from '../../src/api/probes.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLogger } from '../../src/util/log.ts';
import { ask } from '../support/api-server.ts';
import { hasLogged, runCli, startCli } from '../support/cli.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory } from '../support/services.ts';

let sandbox: Sandbox;
let queue: TestQueue;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let env: Record<string, string>;
/** Another program on the port that is asked for. */
let occupant: Server;
let takenPort: number;

beforeAll(async () => {
  [sandbox, queue, directory] = await Promise.all([
    startSandbox(),
    createTestQueue('redis'),
    temporaryDirectory(),
  ]);
  const { target, prefix, name } = queue.config;
  if (target.kind !== 'redis') throw new Error('a Redis queue was asked for');
  env = {
    ...sandboxEnvironment(sandbox),
    QUEUE_URL: target.url,
    QUEUE_NAME: name,
    QUEUE_PREFIX: String(prefix),
    ARCHIVE_URL: `file:${directory.path}`,
  };
  occupant = createServer().listen(0, '127.0.0.1');
  await once(occupant, 'listening');
  takenPort = (occupant.address() as AddressInfo).port;
});

afterAll(async () => {
  occupant.close();
  await Promise.all([queue.remove(), directory.remove(), sandbox.close()]);
});

/** What the image's HEALTHCHECK runs, as its exit code. */
async function checkHealth(port: number): Promise<number> {
  const dockerfile = await readFile(new URL('../../Dockerfile', import.meta.url), 'utf8');
  const [, command = ''] = /^HEALTHCHECK [^[]*CMD (\[.*\])$/m.exec(dockerfile) ?? [];
  const [program, ...args] = JSON.parse(command) as string[];
  expect(program).toBe('node');
  const check = execFile(process.execPath, args, { env: { HTTP_PORT: String(port) } });
  const [code] = (await once(check, 'exit')) as [number];
  return code;
}

it('a worker alone serves probes and metrics to other machines without credentials, and nothing else', async () => {
  const worker = startCli(['worker'], { env: { ...env, HTTP_HOST: '0.0.0.0' } });
  await worker.waitFor(hasLogged('taking sessions'));
  const port = Number(worker.log.find(({ msg }) => msg === 'listening')?.port);
  const url = `http://127.0.0.1:${port}`;

  for (const path of ['/livez', '/readyz']) {
    expect(await ask(url, path), path).toMatchObject({ status: 200, body: { status: 'ok' } });
  }
  expect((await ask(url, '/readyz')).body.dependencies).toEqual(
    ['kore', 'bucket', 'queue'].map((dependency) => ({ dependency, state: 'closed' })),
  );
  const metrics = await ask(url, '/metrics');
  expect(metrics.text).toMatch(/^voicemail_build_info\{version=/m);
  expect(metrics.text).toMatch(/^voicemail_queue_up 1$/m);
  expect(metrics.text).toMatch(/^voicemail_breaker_open\{dependency="kore"\} 0$/m);
  for (const path of [
    '/v1/stats',
    '/v1/sessions',
    '/webhooks/voicemail',
    '/dashboard',
    '/docs',
    '/openapi.json',
  ]) {
    const { status, headers, body } = await ask(url, path);
    expect([status, body.code], path).toEqual([404, 'NOT_FOUND']);
    expect(headers['content-type']).toBe('application/problem+json; charset=utf-8');
    expect(headers['x-request-id']).toBeDefined();
  }
  expect((await ask(url, '/livez', { method: 'POST' })).status).toBe(405);
  expect(await checkHealth(port)).toBe(0);

  worker.kill('SIGTERM');
  expect((await worker.ended).code).toBe(0);
  expect(await checkHealth(port)).toBe(1);
});

it('a worker whose HTTP_PORT is taken says so, and ends with 1', async () => {
  const { code, stderr } = await runCli(['worker'], { env: { ...env, HTTP_PORT: String(takenPort) } });

  expect(code).toBe(1);
  expect(stderr).toContain(
    `error: cannot serve HTTP on 127.0.0.1 port ${takenPort}: another program uses that port`,
  );
  expect(stderr).toContain('HTTP_PORT');
});

it('a worker takes any free port where HTTP_PORT is not set and its default is taken, and names both', async () => {
  const lines: string[] = [];
  const log = createLogger('info', (line) => lines.push(line));
  const options = { check: async () => undefined, log };
  const probes = createProbes({
    ...options,
    http: { host: '127.0.0.1', port: takenPort, isPortDefault: true },
  });

  const { url, port } = await probes.listen();

  expect(port).not.toBe(takenPort);
  expect((await ask(url, '/livez')).status).toBe(200);
  expect(lines.map((line) => JSON.parse(line))).toContainEqual(
    expect.objectContaining({ msg: 'listening', host: '127.0.0.1', port, portTaken: takenPort }),
  );
  await probes.close();
  const chosen = createProbes({ ...options, log: silent, http: { host: '127.0.0.1', port: takenPort } });
  await expect(chosen.listen()).rejects.toThrow(ListenError);
  await chosen.close();
});
