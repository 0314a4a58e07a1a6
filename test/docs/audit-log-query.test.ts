/** The query over the audit log that docs/archive.md shows, run by DuckDB over entries that the program wrote. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { expect, test } from 'vitest';
import { createAuditLog } from '../../src/audit-log/archive-audit-log.ts';
import type { AuditLogEntry } from '../../src/domain/audit-log.ts';
import { openTestArchive } from '../support/archive-stores.ts';
import { silent } from '../support/queues.ts';

const GUIDE = readFileSync(join(import.meta.dirname, '../../docs/archive.md'), 'utf8');
const SHOWN = 's3://my-bucket/voicemail';

test('the query of the audit log finds who downloaded recordings this month', async () => {
  const query = [...GUIDE.matchAll(/```sql\n(.*?)```/gs)]
    .map(([, sql = '']) => sql)
    .find((sql) => sql.includes('audit/'));
  expect(query).toContain(SHOWN);
  const archive = await openTestArchive('file');
  if (archive.target.kind !== 'file') throw new Error('a directory was asked for');
  const actor = { name: 'ada', role: 'listen', via: 'api' } as const;
  const session = (sessionId: string) => ({ botId: 'st-1', sessionId });
  const days: readonly [string, Omit<AuditLogEntry, 'actor'>][] = [
    [
      '2026-01-05T09:30:00.000Z',
      { action: 'download', session: session('s-1'), details: { object: 'manifest' } },
    ],
    ['2026-01-05T09:31:00.000Z', { action: 'pause' }],
    ['2026-01-31T23:59:59.999Z', { action: 'download', session: session('s-2'), requestId: 'r-2' }],
    ['2026-02-01T00:00:00.000Z', { action: 'download', session: session('s-3') }],
  ];
  for (const [at, entry] of days) {
    const auditLog = createAuditLog({ store: archive.store, log: silent, now: () => new Date(at) });
    auditLog.record({ actor, ...entry });
    await auditLog.close();
  }
  const database = await DuckDBInstance.create(':memory:');
  const connection = await database.connect();
  const reader = await connection.runAndReadAll((query ?? '').replace(SHOWN, archive.target.directory));
  expect(reader.getRowsJson()).toEqual([
    [expect.stringContaining('2026-01-05'), 'ada', 's-1'],
    [expect.stringContaining('2026-01-31'), 'ada', 's-2'],
  ]);
  connection.closeSync();
  database.closeSync();
  await archive.close();
});
