/**
 * What the API answers, where no type of the domain says so already.
 *
 * @import { BreakerView, SessionState, SessionView } from '../domain/views.ts'
 */

/** @typedef {{ level: 'ok' | 'waiting' | 'trouble', text: string }} Health */
/** @typedef {{ limit: number, windowSeconds: number, used: number, limitedUntil?: string }} RateLimit */
/**
 * @typedef {object} WorkerView
 * @property {string} id
 * @property {string} host
 * @property {number} pid
 * @property {string} version
 * @property {string} startedAt
 * @property {string} seenAt
 * @property {number} concurrency
 * @property {number} active
 */
/** @typedef {{ minute: string, archived: number, failed: number }} Throughput */
/**
 * @typedef {object} Stats
 * @property {Readonly<Record<SessionState, number>>} states
 * @property {boolean} paused
 * @property {number} transcriptsPending
 * @property {string} [oldestQueuedAt]
 * @property {readonly Throughput[]} throughput
 * @property {Readonly<Record<string, number>>} failuresByCode
 * @property {readonly BreakerView[]} [breakers]
 * @property {Health} health
 * @property {RateLimit} [rateLimit]
 * @property {readonly WorkerView[]} workers
 * @property {{ sessions: number, secondsUntilDone?: number }} backlog
 */

/** @typedef {{ sessions: readonly SessionView[], nextCursor?: string }} SessionPage */
/** @typedef {{ setAt: string, reason?: string }} Hold */

/** @typedef {{ code: string, meaning: string, fix: string, retryable: boolean, waits?: string }} CodeMeaning */

/** @typedef {{ name: string, cron: string, lookbackMs: number, nextRunAt?: string }} Schedule */
/**
 * @typedef {object} Backfill
 * @property {string} id
 * @property {string} state
 * @property {string} botId
 * @property {string} from
 * @property {string} to
 * @property {string} [source]
 * @property {boolean} dryRun
 * @property {number} listed
 * @property {number} skipped
 * @property {number} queued
 * @property {number} alreadyQueued
 * @property {number} withoutVoicemail
 * @property {number} missing
 * @property {number} archived
 * @property {number} failed
 * @property {number} open
 * @property {string} [listedTo]
 * @property {string} enqueuedAt
 * @property {string} [finishedAt]
 * @property {string} [nextAttemptAt]
 * @property {{ code: string, message: string }} [error]
 * @property {readonly string[]} [missingSessions]
 */

/** A manifest, as far as it is shown. */
/**
 * @typedef {object} ManifestRecording
 * @property {string} [fileName]
 * @property {{ container?: string, codec?: string, sampleRate?: number, channels?: number }} [audio]
 * @property {{ state?: string, notes?: readonly string[] }} [integrity]
 */
/** @typedef {{ revision?: number, recordings?: readonly ManifestRecording[] }} Manifest */

export {};
