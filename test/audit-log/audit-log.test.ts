import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type ArchiveAuditLog,
  type AuditLogOptions,
  createAuditLog,
} from '../../src/audit-log/archive-audit-log.ts';
import type { AuditLogEntry } from '../../src/domain/audit-log.ts';
import { createLogger } from '../../src/util/log.ts';
import { registerSecret } from '../../src/util/redact.ts';
import type { Finding } from '../../src/verification/findings.ts';
import { verifyArchive } from '../../src/verification/verify.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';

/** Far longer than any of it takes. */
const WAIT = { timeout: 60_000, interval: 20 };
const never = new AbortController().signal;
const ENTRY: AuditLogEntry = {
  actor: { name: 'ada', role: 'operate', via: 'api' },
  action: 'retry',
  session: { botId: 'st-1', sessionId: 's-1' },
  requestId: 'r-1',
  address: '192.0.2.1',
};

let archive: TestArchive;
let log: string[];
let auditLog: ArchiveAuditLog | undefined;

function open(options: Partial<AuditLogOptions> = {}): ArchiveAuditLog {
  log = [];
  auditLog = createAuditLog({
    store: archive.store,
    log: createLogger('warn', (line) => log.push(line)),
    ...options,
    times: { batchMs: 20, retryMs: 20, longestRetryMs: 50, closeMs: 5_000, ...options.times },
  });
  return auditLog;
}

/** The objects, each with its lines. */
async function objects(): Promise<Record<string, unknown[]>> {
  const found: Record<string, unknown[]> = {};
  for await (const { key } of archive.store.list('audit/', never)) {
    const text = (await archive.store.read(key, never))?.toString() ?? '';
    expect(text.endsWith('\n')).toBe(true);
    found[key] = text
      .slice(0, -1)
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
  }
  return found;
}

const entries = async () => Object.values(await objects()).flat();

afterEach(async () => {
  await auditLog?.close();
  auditLog = undefined;
  await archive.close();
});

for (const kind of ARCHIVE_KINDS) {
  describe(`the audit log (${kind})`, () => {
    beforeEach(async () => {
      archive = await openTestArchive(kind);
    });

    it('the audit log is JSON lines, several in an object, by day', async () => {
      const at = new Date('2026-01-05T23:59:59.123Z');
      const own = open({ now: () => at, times: { batchMs: 60_000 } });
      own.record(ENTRY);
      own.record({ ...ENTRY, action: 'pause', details: { all: true } });
      await own.close();
      const [[key, lines] = []] = Object.entries(await objects());
      expect(key).toMatch(/^audit\/date=2026-01-05\/235959123-[0-9a-f]{12}\.jsonl$/);
      expect(lines).toEqual([
        { at: at.toISOString(), ...ENTRY },
        { at: at.toISOString(), ...ENTRY, action: 'pause', details: { all: true } },
      ]);
      expect(await archive.leftovers()).toEqual([]);
    });

    it('the audit log is written soon, without being closed, and never overwritten', async () => {
      const own = open();
      own.record(ENTRY);
      const first = await vi.waitUntil(async () => {
        const found = await objects();
        return Object.keys(found).length === 1 ? found : undefined;
      }, WAIT);
      own.record({ ...ENTRY, action: 'cancel' });
      await vi.waitUntil(async () => Object.keys(await objects()).length === 2, WAIT);
      expect(await objects()).toMatchObject(first);
    });

    it('the audit log keeps the days apart', async () => {
      const times = ['2026-01-05T23:59:59.999Z', '2026-01-06T00:00:00.000Z'];
      const own = open({ now: () => new Date(times.shift() ?? Number.NaN), times: { batchMs: 60_000 } });
      own.record(ENTRY);
      own.record(ENTRY);
      await own.close();
      const days = Object.keys(await objects()).map((key) => key.split('/')[1]);
      expect(days).toEqual(['date=2026-01-05', 'date=2026-01-06']);
    });

    it('the audit log holds no secret', async () => {
      registerSecret('registered-secret-1');
      const own = open();
      own.record({
        ...ENTRY,
        details: { reason: 'see https://media.example/a.wav?s=signature and registered-secret-1' },
      });
      await own.close();
      const text = JSON.stringify(await entries());
      expect(text).toContain('https://media.example/a.wav');
      expect(text).not.toMatch(/registered-secret|signature/);
    });

    it('verify takes the audit log for no orphan, but what lies beside it', async () => {
      const own = open();
      own.record(ENTRY);
      await own.close();
      const info = { contentType: 'text/plain' };
      await archive.store.write('stuff/a.txt', Buffer.from('a'), info, 'absent', never);
      const findings: Finding[] = [];
      await verifyArchive(
        { kind: 'archive' },
        {
          store: archive.store,
          concurrency: 2,
          settleMs: 0,
          onFinding: async (finding) => void findings.push(finding),
        },
        never,
      );
      expect(findings.map(({ key, kind: found }) => [found, key])).toEqual([
        ['orphaned', archive.store.fullKey('stuff/a.txt')],
      ]);
    });

    it('the audit log refuses an entry after it is closed, and names it', async () => {
      const own = open();
      await own.close();
      own.record(ENTRY);
      expect(log.join('')).toMatch(/is lost: it came after the end/);
      expect(log.join('')).toContain('"name":"ada"');
    });
  });
}

describe('while the archive is unavailable', () => {
  let obstacle: string;

  beforeEach(async () => {
    archive = await openTestArchive('file');
    if (archive.target.kind !== 'file') throw new Error('a directory was asked for');
    // A file where the directory belongs.
    obstacle = join(archive.target.directory, 'audit');
    await mkdir(archive.target.directory, { recursive: true });
    await writeFile(obstacle, '');
  });

  it('entries of the audit log wait while the archive is unavailable, and are written once afterwards', async () => {
    const own = open();
    for (let index = 0; index < 3; index += 1) own.record({ ...ENTRY, details: { index } });
    await vi.waitUntil(() => log.filter((line) => line.includes('will try again')).length >= 3, WAIT);
    own.record({ ...ENTRY, details: { index: 3 } });
    await rm(obstacle);
    await vi.waitUntil(async () => (await entries()).length >= 4, WAIT);
    await own.close();
    const indexes = (await entries()).map((entry) => (entry as { details: { index: number } }).details.index);
    expect(indexes.sort()).toEqual([0, 1, 2, 3]);
  });

  it('entries of the audit log beyond the limit are logged instead while the archive is unavailable', async () => {
    const own = open({ maxBuffered: 500 });
    for (let index = 0; index < 10; index += 1) own.record({ ...ENTRY, details: { index } });
    const lost = log.filter((line) => line.includes('is lost'));
    expect(lost.length).toBeGreaterThan(5);
    expect(lost.at(-1)).toContain('"index":9');
    await rm(obstacle);
    await own.close();
    expect((await entries()).length + lost.length).toBe(10);
  });

  it('closing the audit log ends while the archive is unavailable, and logs what is lost', async () => {
    const own = open({ times: { closeMs: 300 } });
    own.record(ENTRY);
    await own.close();
    expect(log.filter((line) => line.includes('is lost: the archive took none before the end'))).toHaveLength(
      1,
    );
    expect(log.join('')).toContain('"sessionId":"s-1"');
  });
});
