/** The archive as a table: the query that docs/archive.md shows, run by DuckDB over an archive that the program made. */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DuckDBInstance, type Json } from '@duckdb/node-api';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { transcriptKey } from '../../src/storage/layout.ts';
import { openSetup, type Pipeline, type Setup } from '../support/pipeline.ts';

const GUIDE = join(import.meta.dirname, '../../docs/archive.md');
const BOT = 'st-first';
const OTHER_BOT = 'st-second';

/** A session id whose time of creation is the given one. */
function idOf(createdAt: string, end: string): string {
  return (Date.parse(createdAt) / 1000).toString(16) + end.padStart(16, '0');
}

const ON_THE_FIRST = idOf('2026-01-01T00:00:00Z', 'a1');
const MID_MONTH = idOf('2026-01-15T12:00:00Z', 'a2');
const ON_THE_LAST = idOf('2026-01-31T23:59:59Z', 'a3');
const IN_FEBRUARY = idOf('2026-02-01T00:00:00Z', 'a4');
const WITHOUT_TRANSCRIPT = idOf('2026-01-20T12:00:00Z', 'a5');
const OF_THE_OTHER_BOT = idOf('2026-01-15T12:00:00Z', 'a6');
const UNDATED = '20260115';
const MISSED_TWICE = idOf('2026-01-16T08:00:00Z', 'a7');
const MISSED_AGAIN = idOf('2026-01-16T09:00:00Z', 'a8');

let setup: Setup;
let running: Pipeline[] = [];

beforeAll(async () => {
  setup = await openSetup('redis', 'file');
  const first = await setup.start({ sandbox: { botId: BOT } });
  const second = await setup.start({ sandbox: { botId: OTHER_BOT } });
  running = [first, second];
  first.sandbox.addSession({ sessionId: ON_THE_FIRST, transcription: ['Hello.', 'I want my Refund!'] });
  first.sandbox.addSession({ sessionId: MID_MONTH, transcription: 'Please call me back.' });
  first.sandbox.addSession({ sessionId: ON_THE_LAST, transcription: 'Where\nis the "refund", Zoë? {ü}' });
  first.sandbox.addSession({ sessionId: IN_FEBRUARY, transcription: 'A refund in February.' });
  first.sandbox.addSession({ sessionId: WITHOUT_TRANSCRIPT });
  for (const sessionId of [MISSED_TWICE, MISSED_AGAIN]) first.sandbox.addSession({ sessionId });
  const call = { from: '+15550100', to: '+15550199', queue: 'Claims' };
  await first.request({ sessionId: MISSED_TWICE, call }, { sessionId: MISSED_AGAIN, call });
  for (const id of [MISSED_TWICE, MISSED_AGAIN]) await first.ends(id);
  first.sandbox.addSession({ sessionId: UNDATED, transcription: 'A refund at some time.' });
  second.sandbox.addSession({ sessionId: OF_THE_OTHER_BOT, transcription: 'A refund of another bot.' });
  const ids = [ON_THE_FIRST, MID_MONTH, ON_THE_LAST, IN_FEBRUARY, WITHOUT_TRANSCRIPT, UNDATED];
  await Promise.all([first.enqueue(...ids), second.enqueue(OF_THE_OTHER_BOT)]);
  for (const id of ids) expect(await first.ends(id)).toMatchObject({ state: 'archived' });
  expect(await second.ends(OF_THE_OTHER_BOT)).toMatchObject({ state: 'archived' });
  expect((await first.manifest(WITHOUT_TRANSCRIPT)).transcript.state).toBe('pending');
});

afterAll(async () => {
  for (const pipeline of running) await pipeline.stop();
  await setup.close();
});

/** The query of docs/archive.md, over this archive and about this bot; other changes are for the caller to make. */
async function readmeQuery(botId: string, heading = 'Search the transcripts'): Promise<string> {
  const [, section = ''] = (await readFile(GUIDE, 'utf8')).split(`## ${heading}\n`);
  const [, query = ''] = /```sql\n(.*?)```/s.exec(section) ?? [];
  expect(query).toContain("'data/archive/");
  expect(query).toContain("'st-...'");
  if (setup.archive.target.kind !== 'file') throw new Error('an archive in a directory was asked for');
  return query
    .replace("'data/archive/", `'${setup.archive.target.directory}/`)
    .replace("'st-...'", `'${botId}'`);
}

async function ask(query: string): Promise<Record<string, Json>[]> {
  const database = await DuckDBInstance.create(':memory:');
  const connection = await database.connect();
  try {
    return (await connection.runAndReadAll(query)).getRowObjectsJson();
  } finally {
    connection.closeSync();
    database.closeSync();
  }
}

test('the query of docs/archive.md finds what was said to a bot between two dates', async () => {
  const rows = await ask(await readmeQuery(BOT));

  const at = expect.stringMatching(/^\d{4}-\d\d-\d\dT/);
  expect(rows).toHaveLength(2);
  expect(rows).toEqual(
    expect.arrayContaining([
      { session_id: ON_THE_FIRST, date: '2026-01-01', said_at: at, said: 'I want my Refund!' },
      { session_id: ON_THE_LAST, date: '2026-01-31', said_at: at, said: 'Where\nis the "refund", Zoë? {ü}' },
    ]),
  );
  expect(await ask(await readmeQuery(OTHER_BOT))).toEqual([
    expect.objectContaining({ session_id: OF_THE_OTHER_BOT, said: 'A refund of another bot.' }),
  ]);
});

test('the query of missed calls counts them by number and day', async () => {
  const rows = await ask(await readmeQuery(BOT, 'Missed calls by number and day'));

  expect(rows.filter(({ number }) => number !== null)).toEqual([
    { date: '2026-01-16', number: '+15550100', calls: '2' },
  ]);
});

test('the queries of docs/archive.md find everything across bots and dates, also where the id tells no date', async () => {
  const query = (await readmeQuery(BOT)).replace(/^WHERE .* AND said/m, 'WHERE said');
  const found = (await ask(query)).map(({ session_id, date }) => `${date} ${session_id}`);

  expect(found.sort()).toEqual([
    `2026-01-01 ${ON_THE_FIRST}`,
    `2026-01-15 ${OF_THE_OTHER_BOT}`,
    `2026-01-31 ${ON_THE_LAST}`,
    `2026-02-01 ${IN_FEBRUARY}`,
    `undated ${UNDATED}`,
  ]);
});

test('the queries of docs/archive.md read nothing but the partitions that bot and dates allow', async () => {
  // Whoever reads this one as well fails on it.
  const sessionId = idOf('2026-03-01T00:00:00Z', 'b1');
  if (setup.archive.target.kind !== 'file') throw new Error('an archive in a directory was asked for');
  const broken = join(setup.archive.target.directory, transcriptKey({ botId: BOT, sessionId }));
  await mkdir(dirname(broken), { recursive: true });
  await writeFile(broken, '{"messages": [');
  const query = await readmeQuery(BOT);

  expect(await ask(query)).toHaveLength(2);
  await expect(ask(query.replace('2026-01-31', '2026-03-01'))).rejects.toThrow(/JSON/);
  await expect(ask(query.replace(/^WHERE .* AND said/m, 'WHERE said'))).rejects.toThrow(/JSON/);
});
