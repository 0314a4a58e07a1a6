import { tmpdir } from 'node:os';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openRuntime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { VERSION } from '../../src/util/process.ts';
import {
  createOutsideProject,
  filesWith,
  type OutsideProject,
  TREE_ROOT,
  TSC,
} from '../support/outside-project.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

/** A service in TypeScript: a voicemail comes in twice, and then something that is none. */
const WEBHOOK = `
import { ArchiverError, createArchiver, type EnqueueResult, type SessionView } from 'voicemail-archiver';

declare const process: { readonly argv: readonly string[] };
const [, , queueUrl = '', queuePrefix, botId, sessionId = ''] = process.argv;

const archiver = createArchiver({ queueUrl, queueName: 'sessions', queuePrefix, botId });
const results: EnqueueResult[] = [
  ...(await archiver.enqueue(sessionId)),
  ...(await archiver.enqueue([sessionId], { priority: 'live' })),
];
const session: SessionView | undefined = await archiver.get(sessionId);
const refusal = await archiver.enqueue('no id at all').then(
  () => 'none',
  (error: unknown) => (error instanceof ArchiverError ? error.code : 'something else'),
);
console.log(JSON.stringify({ outcomes: results.map(({ outcome }) => outcome), state: session?.state, refusal }));
await archiver.close();
`;

/** A service in plain JavaScript with \`require\`: what became of the voicemail? */
const DASHBOARD = `
const { createArchiver } = require('voicemail-archiver');

const [, , queueUrl, queuePrefix, botId, sessionId] = process.argv;
const archiver = createArchiver({ queueUrl, queueName: 'sessions', queuePrefix, botId });
(async () => {
  const session = await archiver.get(sessionId);
  const { sessions } = await archiver.list({ state: 'archived' });
  const { states } = await archiver.stats();
  console.log(JSON.stringify({ session, listed: sessions.length, archived: states.archived }));
  await archiver.close();
})();
`;

/** Never run: what the compiler has to understand, and what it has to refuse. */
const TYPES = `
import { type Archiver, ConfigError, createArchiver, type SessionEvent } from 'voicemail-archiver';

export async function accepted(signal: AbortSignal): Promise<readonly string[]> {
  await using archiver: Archiver = createArchiver({ queueUrl: 'redis://localhost', logger: console });
  for await (const { name, session } of archiver.events({ signal })) console.log(name, session.error?.code);
  return new ConfigError([]).faults.map(({ variable }) => variable);
}

export async function refused(archiver: Archiver, event: SessionEvent): Promise<void> {
  // @ts-expect-error ids are texts
  await archiver.enqueue(5);
  // @ts-expect-error there is no such state
  await archiver.list({ state: 'lost' });
  // @ts-expect-error without a queue there is nothing to do
  createArchiver({ botId: 'st-1' });
  // @ts-expect-error nobody knows whether it is known
  (await archiver.get('a')).state;
  // @ts-expect-error it is a text, not just anything
  const number: number = event.session.sessionId;
}
`;

/** As strict as can be, and without the types of Node.js: the package's own have to stand for themselves. */
const COMPILER_OPTIONS = {
  module: 'nodenext',
  target: 'es2022',
  lib: ['es2022', 'dom'],
  types: [],
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: false,
  noEmit: true,
};

let project: OutsideProject;
let queue: TestQueue;
let sandbox: Sandbox;
let archive: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  [project, queue, sandbox, archive] = await Promise.all([
    createOutsideProject(),
    createTestQueue('redis'),
    startSandbox(),
    temporaryDirectory(),
  ]);
  await Promise.all([
    project.write('webhook.ts', WEBHOOK),
    project.write('dashboard.cjs', DASHBOARD),
    project.write('types.ts', TYPES),
    project.write(
      'required.cts',
      "import archiver = require('voicemail-archiver');\narchiver.createArchiver;\n",
    ),
    project.write('tsconfig.json', JSON.stringify({ compilerOptions: COMPILER_OPTIONS })),
  ]);
}, 180_000);

afterAll(async () => {
  await Promise.all([project.remove(), queue.remove(), sandbox.close(), archive.remove()]);
});

it('the package holds the built program, its types and its papers, and nothing of where it was built', async () => {
  const others = project.packed.filter(
    (path) =>
      !/^(?:dist\/[\w/-]+\.(?:js|d\.ts)|dist\/page\/static\/\w+\.(?:css|svg)|package\.json|README\.md|LICENSE)$/.test(
        path,
      ),
  );

  expect(others).toEqual([]);
  expect(project.packed).toEqual(
    expect.arrayContaining(['dist/cli.js', 'dist/index.js', 'dist/index.d.ts', 'dist/page/main.js']),
  );
  expect(await filesWith(project.installed, [TREE_ROOT, tmpdir(), 'sourceMappingURL'])).toEqual([]);
});

it('the installed program runs and prints its version', async () => {
  const { stdout } = await project.run(['--version'], 'node_modules/.bin/voicemail-archiver');

  expect(stdout).toBe(`${VERSION}\n`);
});

it("another project's compiler accepts the types at its strictest, and refuses wrong use", async () => {
  const result = await project.run(['-p', '.'], TSC).catch((failed: unknown) => failed);

  expect(result).toEqual({ stdout: '', stderr: '' });
});

it('what another service queues is archived by a worker like anything else, and that service sees it', async () => {
  const { target, prefix } = queue.config;
  if (target.kind !== 'redis' || !prefix) throw new Error('the queue is on Redis, with a prefix');
  const sessionId = sandbox.addSession({ recordings: [{ bytes: 2_000 }] });
  const args = [target.url, prefix, sandbox.botId, sessionId];

  const webhook = await project.run(['webhook.ts', ...args]);
  expect(webhook.stderr).toBe('');
  expect(JSON.parse(webhook.stdout)).toEqual({
    outcomes: ['queued', 'already-queued'],
    state: 'queued',
    refusal: 'INVALID_REQUEST',
  });

  const environment = { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${archive.path}` };
  const { config, kore } = testConfig(environment, queue.config);
  const runtime = await openRuntime(config, silent);
  const archived = await runtime.events.subscribe('0-0');
  const worker = await runtime.startWorker(kore);
  for (let names: string[] = []; !names.includes('archived'); ) {
    const events = await archived.next(20_000);
    if (!events?.length) throw new Error(`nothing was archived; the last that happened: ${names}`);
    names = events.map(({ name }) => name);
  }
  const view = await runtime.operations.view({ sessionId, botId: sandbox.botId });
  await worker.stop();
  await runtime.close();

  const dashboard = await project.run(['dashboard.cjs', ...args]);
  expect(dashboard.stderr).toBe('');
  expect(JSON.parse(dashboard.stdout)).toEqual({ session: view, listed: 1, archived: 1 });
  expect(view).toMatchObject({ state: 'archived', recordings: [{ bytes: 2_000 }] });
});
