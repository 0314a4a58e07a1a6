import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditLog, AuditLogEntry } from '../domain/audit-log.ts';
import { AUDIT_LOG_DIRECTORY } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { withinTime } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { redact } from '../util/redact.ts';

/** An audit log that must be closed, so that its last entries are written. */
export interface ArchiveAuditLog extends AuditLog {
  /** Writes the remaining entries, for `closeMs` at most. Never rejects. */
  close(): Promise<void>;
}

/** Times of an audit log, in milliseconds. */
export interface AuditLogTimes {
  /** How long an entry waits for others, so that they are written together. */
  readonly batchMs: number;
  /** The pause after a failed write; it doubles each time, up to `longestRetryMs`. */
  readonly retryMs: number;
  readonly longestRetryMs: number;
  /** How long closing may take. */
  readonly closeMs: number;
}

/** What an audit log uses. */
export interface AuditLogOptions {
  readonly store: ArchiveStore;
  readonly log: Logger;
  readonly now?: () => Date;
  readonly times?: Partial<AuditLogTimes>;
  /** Characters of entries kept while the archive takes none (default 16 Mi). */
  readonly maxBuffered?: number;
}

const DEFAULT_TIMES: AuditLogTimes = {
  batchMs: 5_000,
  retryMs: 5_000,
  longestRetryMs: 60_000,
  closeMs: 5_000,
};
const MAX_BUFFERED = 16 * 1024 * 1024;
/** The pause between tries while it is closed. */
const CLOSE_PAUSE_MS = 200;
/** Entries in one object. */
const MAX_BATCH = 1_000;
const INFO = { contentType: 'application/x-ndjson' } as const;

/** One object to write. Every attempt writes the same key, so that nothing is written twice. */
interface Batch {
  readonly key: string;
  readonly lines: readonly string[];
}

/** An entry in the buffer. */
interface Line {
  /** ISO 8601 */
  readonly at: string;
  readonly text: string;
}

/**
 * An audit log in the archive: JSON lines below `audit/date=YYYY-MM-DD/`, a new object for each batch, never written
 * over. A failed write is logged and tried again. Entries that are lost (the buffer is full, or the process ends while
 * the archive is unreachable) are logged in full.
 *
 * @example
 * const auditLog = createAuditLog({ store, log });
 * auditLog.record({ actor: { name: 'ada', role: 'operate', via: 'api' }, action: 'pause' });
 * await auditLog.close();
 */
export function createAuditLog(options: AuditLogOptions): ArchiveAuditLog {
  const { store, log, now = () => new Date(), maxBuffered = MAX_BUFFERED } = options;
  const times: AuditLogTimes = { ...DEFAULT_TIMES, ...options.times };
  const buffer: Line[] = [];
  /** Characters in the buffer and the batch. */
  let size = 0;
  let batch: Batch | undefined;
  let failures = 0;
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> | undefined;
  let isClosed = false;

  const schedule = (milliseconds: number): void => {
    // An entry alone must not keep a process running: the end of the process closes this.
    timer ??= setTimeout(() => {
      timer = undefined;
      void write(new AbortController().signal);
    }, milliseconds).unref();
  };

  /** Writes until nothing is left, or a write fails. Never rejects. */
  const write = (signal: AbortSignal): Promise<void> => {
    writing ??= writeAll(signal).finally(() => {
      writing = undefined;
    });
    return writing;
  };

  const writeAll = async (signal: AbortSignal): Promise<void> => {
    try {
      for (batch ??= nextBatch(buffer); batch; batch = nextBatch(buffer)) {
        const text = batch.lines.join('');
        await store.write(batch.key, Buffer.from(text), INFO, 'absent', signal);
        size -= text.length;
        failures = 0;
      }
    } catch (error) {
      if (!isClosed) {
        log.warn({ err: error, entries: left() }, 'could not write to the audit log, will try again');
        schedule(Math.min(times.retryMs * 2 ** Math.min(failures, 20), times.longestRetryMs));
      }
      failures += 1;
    }
  };

  const left = (): number => buffer.length + (batch?.lines.length ?? 0);
  const lose = (text: string, why: string): void => {
    log.error({ audit: JSON.parse(text) as unknown }, `an entry of the audit log is lost: ${why}`);
  };

  return {
    record(entry) {
      const at = now().toISOString();
      const text = `${lineOf(entry, at)}\n`;
      if (isClosed) lose(text, 'it came after the end');
      else if (size + text.length > maxBuffered)
        lose(text, 'the archive takes none, and too many wait already');
      else {
        buffer.push({ at, text });
        size += text.length;
        schedule(times.batchMs);
      }
    },
    async close() {
      clearTimeout(timer);
      // An entry that comes now is lost, and logged.
      isClosed = true;
      const time = AbortSignal.timeout(times.closeMs);
      if (writing) await withinTime(writing, times.closeMs);
      for (let tries = 0; left() > 0 && !time.aborted; tries += 1) {
        if (tries > 0) await sleep(CLOSE_PAUSE_MS);
        await write(time);
      }
      const lost = [...(batch?.lines ?? []), ...buffer.map(({ text }) => text)];
      for (const text of lost) lose(text, 'the archive took none before the end');
    },
  };
}

/** Takes the oldest entries that belong into one object out of the buffer. */
function nextBatch(buffer: Line[]): Batch | undefined {
  const [first] = buffer;
  if (!first) return undefined;
  const date = first.at.slice(0, 'YYYY-MM-DD'.length);
  const other = buffer.findIndex(({ at }) => !at.startsWith(date));
  const lines = buffer.splice(0, Math.min(other === -1 ? buffer.length : other, MAX_BATCH));
  const time = first.at.slice('YYYY-MM-DDT'.length, -1).replace(/\D/g, '');
  return {
    key: `${AUDIT_LOG_DIRECTORY}date=${date}/${time}-${randomBytes(6).toString('hex')}.jsonl`,
    lines: lines.map(({ text }) => text),
  };
}

function lineOf({ actor, action, session, details, requestId, address }: AuditLogEntry, at: string): string {
  return redact(
    JSON.stringify({
      at,
      actor: { name: actor.name, role: actor.role, via: actor.via },
      action,
      ...(session && { session: { botId: session.botId, sessionId: session.sessionId } }),
      ...(details && Object.keys(details).length > 0 && { details }),
      ...(requestId !== undefined && { requestId }),
      ...(address !== undefined && { address }),
    }),
  );
}
