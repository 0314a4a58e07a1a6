/** Runs the programs of an image in its tree, as its user, with everything but the volume read-only. */

import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { lstat, readdir, readlink, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { findProgram, freePort, searchPath } from '../test/setup/process.ts';
import { startRedis } from '../test/setup/redis.ts';
import { IMAGE_PATH, type ImageConfig } from './image-config.ts';

/** An image as it lies on this machine. */
interface ImageTree {
  /** What would be `/` in a container. */
  readonly root: string;
  readonly config: ImageConfig;
}

/** How a program ended. */
interface Ended {
  readonly code: number | null;
  readonly output: string;
}

/** A program that runs until it is stopped. */
interface Running {
  /** What it has written so far. */
  readonly output: () => string;
  /** Ends it as Docker does, and tells its exit code. */
  stop(): Promise<number | null>;
}

/** For programs that end by themselves, within seconds where all is well. */
const TIMEOUT_MS = 180_000;

type Environment = Readonly<Record<string, string>>;

/**
 * In namespaces of its own: everything is read-only but the volume, and what is run has neither root's rights nor a way
 * to get them. $1 is the tree, $2 the volume in it, $3 and $4 user and group.
 */
const CONFINE = `
mount -o remount,bind,ro /
for directory in /tmp "$1"; do
  mount --bind "$directory" "$directory"
  mount -o remount,bind,ro "$directory"
done
mount --bind "$2" "$2"
mount -o remount,bind,rw "$2"
user=$3 group=$4
cd "$2"
shift 4
exec setpriv --reuid="$user" --regid="$group" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
`;

/**
 * Starts the program in many ways: by its name on the path, as ENTRYPOINT and CMD say, in a tree that it can't write to;
 * and has a session archived by a worker and an API that HEALTHCHECK finds healthy.
 *
 * @returns what is not as it should be, a line for each.
 */
export async function faultsOfProgram(
  tree: ImageTree,
  bin: string,
  report: (line: string) => void,
): Promise<string[]> {
  const { root, config } = tree;
  const faults: string[] = [];
  const run = createRunner(tree, report);
  const expectRun = async (what: string, running: Promise<Ended>, code: number, says: RegExp) => {
    const ended = await running;
    if (ended.code === code && says.test(ended.output)) report(`${what}: as it should be`);
    else faults.push(`${what} ended with ${ended.code} and said: ${ended.output}`);
  };
  const before = await contentsOf(root, config.volumes);

  faults.push(...(await faultsOfPath(tree, bin)), ...(await run.faultsOfConfinement()));
  await expectRun(`${bin} --version`, run.once([bin, '--version']), 0, /^\d+\.\d+\.\d+$/m);
  await expectRun(
    'ENTRYPOINT and CMD without a configuration',
    run.once([...config.entrypoint, ...config.command]),
    2,
    /KORE_HOST: is required/,
  );
  await expectRun('doctor without a configuration', run.once([bin, 'doctor']), 1, /KORE_HOST: is required/);
  const kore = { KORE_HOST: 'kore.example', KORE_BOT_ID: 'st-1', KORE_CLIENT_ID: 'cs-1' };
  await expectRun(
    'start with an embedded queue',
    run.once([bin, 'start'], {
      ...{ ...kore, KORE_CLIENT_SECRET: 'secret', HTTP_PORT: '0' },
      ...{ QUEUE_URL: 'embedded:queue', ARCHIVE_URL: 'file:archive' },
    }),
    1,
    /npm install @electric-sql\/pglite/,
  );
  faults.push(...(await faultsOfServices(run, config, bin, report)));
  if ((await contentsOf(root, config.volumes)) !== before) faults.push('the image has changed while it ran');
  return faults;
}

/** The command lies where the image looks for it, leads to the program, and is nobody's to change. */
async function faultsOfPath({ root, config }: ImageTree, bin: string): Promise<string[]> {
  const found = findProgram(
    bin,
    IMAGE_PATH.map((directory) => join(root, directory)),
  );
  if (found === undefined) return [`${bin} is on no path of the image`];
  const entry = config.entrypoint.at(-1) ?? '';
  const target = await readlink(found);
  const faults =
    target === join(root, entry) ? [] : [`${bin} leads to ${target}, and ENTRYPOINT to ${entry}`];
  if (process.getuid?.() !== 0) return faults;
  const [user, group] = config.user.split(':').map(Number);
  for (const name of await readdir(root, { recursive: true })) {
    if (config.volumes.some((volume) => `/${name}`.startsWith(volume))) continue;
    const { mode, uid, gid } = await lstat(join(root, name));
    const isLink = (mode & constants.S_IFMT) === constants.S_IFLNK;
    const mayWrite = uid === user || (gid === group && (mode & 0o020) !== 0) || (mode & 0o002) !== 0;
    if (!isLink && mayWrite) faults.push(`/${name} may be changed by the user of the image`);
  }
  return faults.slice(0, 5);
}

/** A worker and an API of the image, on a Redis of this machine and with the image's own stand-in for Kore. */
async function faultsOfServices(
  run: Runner,
  config: ImageConfig,
  bin: string,
  report: (line: string) => void,
): Promise<string[]> {
  const faults: string[] = [];
  await using opened = new AsyncDisposableStack();
  const redis = opened.adopt(await startRedis(), (server) => server.stop());
  const sandboxPort = String(await freePort());
  const start = async (command: readonly string[], environment: Environment, ready: string) =>
    opened.adopt(await run.start([...config.entrypoint, ...command], environment, ready), (one) =>
      one.stop().then(() => undefined),
    );
  const sandbox = await start(['sandbox', '--port', sandboxPort, '--json'], {}, '\n}\n');
  const { sessions, environment: kore } = JSON.parse(sandbox.output()) as SandboxFacts;
  const environment = { ...kore, QUEUE_URL: redis.url, ARCHIVE_URL: 'file:archive' };
  for (const [role, ready] of [
    ['worker', 'taking sessions'],
    ['api', 'listening'],
  ] as const) {
    const own = { ...environment, HTTP_PORT: String(await freePort()) };
    const health = async () => (await run.once(config.health.command, { HTTP_PORT: own.HTTP_PORT })).code;
    if ((await health()) !== 1) faults.push(`HEALTHCHECK finds healthy what does not run: ${role}`);
    const service = await start([role], own, ready);
    if ((await health()) !== 0) faults.push(`HEALTHCHECK does not find healthy what runs: ${role}`);
    if (role === 'worker') {
      const { code, output } = await run.once(
        [bin, 'enqueue', sessions[0]?.sessionId ?? '', '--wait'],
        environment,
      );
      if (code !== 0) faults.push(`a session was not archived: ${output}`);
    }
    const code = await service.stop();
    if (code !== 0) faults.push(`SIGTERM ended the ${role} with ${code}: ${service.output()}`);
    report(`${role}, found healthy by HEALTHCHECK, and stopped: looked at`);
  }
  return faults;
}

/** What `sandbox --json` tells. */
interface SandboxFacts {
  readonly environment: Environment;
  readonly sessions: readonly { readonly sessionId: string }[];
}

type Runner = ReturnType<typeof createRunner>;

/** What runs programs as a container of the image would, as far as this machine lets it. */
function createRunner({ root, config }: ImageTree, report: (line: string) => void) {
  const [user = '', group = ''] = config.user.split(':');
  const volume = join(root, config.directory);
  const isRoot = process.getuid?.() === 0;
  const confinement = ['--mount', '--', 'sh', '-ec', CONFINE, 'sh', root, volume, user, group];
  const isConfined = isRoot && canConfine(confinement);
  if (!isConfined) {
    report(
      isRoot
        ? 'mounts are not allowed here: run as the image user in a tree of root, which is not read-only'
        : 'not run as root: run as the same user, in a tree that is not read-only',
    );
  }

  function commandFor(words: readonly string[]): [string, string[]] {
    const paths = IMAGE_PATH.map((directory) => join(root, directory));
    const [name = '', ...args] = words;
    // Absolute paths of the image are those of its tree.
    const program = name.startsWith('/') ? join(root, name) : (findProgram(name, paths) ?? name);
    const own = args.map((word) => (word.startsWith('/app/') ? join(root, word) : word));
    return isConfined ? ['unshare', [...confinement, program, ...own]] : [program, own];
  }

  const optionsFor = (environment: Environment) => ({
    cwd: volume,
    env: {
      PATH: [...IMAGE_PATH.map((directory) => join(root, directory)), '/usr/bin', '/bin'].join(':'),
      ...config.environment,
      ...environment,
    },
    ...(isRoot && !isConfined && { uid: Number(user), gid: Number(group) }),
  });

  async function runOnce(words: readonly string[], environment: Environment = {}): Promise<Ended> {
    const [program, args] = commandFor(words);
    // One that should end and does not must not hold this up.
    return promisify(execFile)(program, args, { ...optionsFor(environment), timeout: TIMEOUT_MS }).then(
      ({ stdout }) => ({ code: 0, output: stdout }),
      ({ code, stdout, stderr }) => ({ code: code as number, output: `${stdout}${stderr}` }),
    );
  }

  return {
    once: runOnce,

    /** Resolves when it has written what tells that it is ready. */
    async start(words: readonly string[], environment: Environment, ready: string): Promise<Running> {
      const [program, args] = commandFor(words);
      const child = spawn(program, args, { ...optionsFor(environment), stdio: ['ignore', 'pipe', 'pipe'] });
      const ended = once(child, 'exit').then(([code]: (number | null)[]) => code ?? null);
      let output = '';
      await saysReady(child, ended, (text) => {
        output += text;
        return output.includes(ready);
      });
      return {
        output: () => output,
        async stop() {
          child.kill('SIGTERM');
          return ended;
        },
      };
    },

    /** A program can write to the volume, and nowhere else. */
    async faultsOfConfinement(): Promise<string[]> {
      const write = (file: string) =>
        runOnce(['node', '-e', `fs.writeFileSync(${JSON.stringify(file)}, '')`]);
      const faults: string[] = [];
      if ((await write(join(volume, 'mark'))).code !== 0)
        faults.push(`${config.directory} can't be written to`);
      await rm(join(volume, 'mark'), { force: true });
      if (!isRoot) return faults;
      for (const directory of ['app', 'app/dist', 'usr/local/bin', '.']) {
        const { code, output } = await write(join(root, directory, 'mark'));
        if (code === 0 || !(isConfined ? /EROFS/ : /EACCES|EROFS/).test(output))
          faults.push(`/${directory} can be written to: ${output}`);
      }
      return faults;
    },
  };
}

/** Whether this machine lets root mount in a namespace of its own; many containers do not. */
function canConfine(confinement: readonly string[]): boolean {
  if (!findProgram('unshare', searchPath()) || !findProgram('setpriv', searchPath())) return false;
  try {
    execFileSync('unshare', [...confinement, 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

async function saysReady(
  child: ChildProcess,
  ended: Promise<number | null>,
  isReady: (text: string) => boolean,
): Promise<void> {
  const ready = Promise.withResolvers<void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      if (isReady(text)) ready.resolve();
    });
  }
  const early = ended.then((code) => {
    throw new Error(`${child.spawnargs.at(-1)} ended with ${code} before it was ready`);
  });
  await Promise.race([ready.promise, early]);
  // Its end is expected from now on.
  early.catch(() => undefined);
}

/** The names, sizes and times of all files but those of volumes, as one text. */
async function contentsOf(root: string, volumes: readonly string[]): Promise<string> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const lines = entries
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !volumes.some((volume) => path.startsWith(join(root, volume))))
    .map(async (path) => {
      const { size, mtimeMs } = await lstat(path);
      return `${relative(root, path)} ${size} ${mtimeMs}`;
    });
  return (await Promise.all(lines)).sort().join('\n');
}
