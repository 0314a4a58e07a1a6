import { readdir, readFile, readlink } from 'node:fs/promises';
import { ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';

/** Where Linux tells of its processes; no other system does so. */
const PROC = '/proc';
/** Where it keeps the fields of a process's `stat` that follow its name (proc_pid_stat(5)). */
const FIELD = { parent: 1, startedAt: 19 } as const;
/** Of Playwright, which removes the browser's profile some time after the browser has ended. */
const NOT_OURS = /^playwright/;

/** What the tests of a run must not leave behind. */
export interface Traces {
  /** The directory of this project. */
  readonly root: string;
  /** The only directory in which the tests make temporary files. */
  readonly temporaryDirectory: string;
  /** How the names of the run's buckets begin. */
  readonly bucketPrefix: string;
}

/** Everything that is still there, a line for each. */
export async function leftovers({ root, temporaryDirectory, bucketPrefix }: Traces): Promise<string[]> {
  const [files, processes, buckets] = await Promise.all([
    readdir(temporaryDirectory),
    leftProcesses([`${root}/src/`, `${root}/test/`, temporaryDirectory]),
    leftBuckets(bucketPrefix),
  ]);
  return [
    ...files.filter((name) => !NOT_OURS.test(name)).map((name) => `temporary file: ${name}`),
    ...processes.map((command) => `process: ${command}`),
    ...buckets.map((name) => `bucket: ${name}`),
  ];
}

/** Command lines of processes that began in this run, and whose parent has ended or is this process. */
async function leftProcesses(marks: readonly string[]): Promise<string[]> {
  const since = Number((await stat(process.pid))?.[FIELD.startedAt] ?? Number.POSITIVE_INFINITY);
  const ids = (await readdir(PROC).catch(() => [])).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    ids.map(async (id) => {
      const [fields, command, directory = ''] = await Promise.all([
        stat(id),
        read(`${PROC}/${id}/cmdline`),
        readlink(`${PROC}/${id}/cwd`).catch(() => undefined),
      ]);
      // Workers of the test runner may still be on their way out; those of another run have another parent.
      if (!fields || !command || command.includes('/vitest/')) return [];
      const isOurs = ['1', String(process.pid)].includes(fields[FIELD.parent] ?? '');
      const isNew = Number(fields[FIELD.startedAt]) >= since;
      // Redis writes a title of its own over its command line, but works in its directory.
      const isMarked = marks.some((mark) => command.includes(mark) || `${directory}/`.startsWith(mark));
      if (!isOurs || !isNew || !isMarked) return [];
      return [`${id} ${command.replaceAll('\0', ' ').trim()}`];
    }),
  );
  return found.flat();
}

async function stat(id: number | string): Promise<string[] | undefined> {
  // The name before the last parenthesis may hold anything.
  return (await read(`${PROC}/${id}/stat`))?.replace(/^.*\) /s, '').split(' ');
}

/** @returns `undefined` for a process that has just ended. */
async function read(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}

/** On a real server; the small one in the process of a test ends with it. */
async function leftBuckets(prefix: string): Promise<string[]> {
  const { S3_TEST_ENDPOINT: endpoint, AWS_REGION: region = 'us-east-1' } = process.env;
  if (!endpoint) return [];
  const client = new S3Client({ endpoint, region, forcePathStyle: true });
  try {
    const { Buckets = [] } = await client.send(new ListBucketsCommand({}));
    return Buckets.flatMap(({ Name }) => (Name?.startsWith(prefix) ? [Name] : []));
  } finally {
    client.destroy();
  }
}
