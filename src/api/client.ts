import type { z } from 'zod';
import type { BackfillOperations } from '../backfills/operations.ts';
import type { CompletenessOperations } from '../completeness/operations.ts';
import { isErrorCode, VoicemailError } from '../domain/errors.ts';
import type { EnqueueRequest, EnqueueResult } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import { QueueUnavailableError } from '../jobs/backends/backend.ts';
import type { CustodyOperations } from '../operations/custody.ts';
import { MAX_SESSIONS_PER_REQUEST } from '../operations/input.ts';
import type { Operations } from '../operations/operations.ts';
import type { Dispatcher } from '../util/http-exchange.ts';
import { createDispatcher } from '../util/http-proxy.ts';
import {
  BackfillList,
  BackfillViewSchema,
  Nothing,
  ScheduleList,
  ScheduleView,
} from './schemas/backfills.ts';
import { CompletenessAnswer, CompletenessRunSchema } from './schemas/completeness.ts';
import { EraseAnswer, Erasure, Hold, HoldAnswer, HoldList, ReleaseAnswer } from './schemas/custody.ts';
import {
  CancelAllAnswer,
  CancelAnswer,
  EnqueueAnswer,
  PauseAnswer,
  Problem,
  RetryAnswer,
  RetrySessionsAnswer,
  SessionPageSchema,
  SessionViewSchema,
} from './schemas/sessions.ts';
import { Stats } from './schemas/stats.ts';

/** Operations over the API of another process. */
export interface RemoteOperations extends Operations {
  readonly backfills: BackfillOperations;
  readonly custody: CustodyOperations;
  readonly completeness: CompletenessOperations;
  /** Closes the connections; requests still under way fail. */
  close(): Promise<void>;
}

/** The API refused a request or answered something unforeseen. */
class RemoteError extends Error {
  /** The problem's code, where there is one. */
  readonly code: string | undefined;

  constructor(message: string, code?: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'RemoteError';
    this.code = code;
  }
}

const CONNECT_TIMEOUT_MS = 5_000;
/** Retrying a large number of sessions is one request. */
const ANSWER_TIMEOUT_MS = 10 * 60 * 1_000;
const CONNECTIONS = 16;

/**
 * Operations on the queue of another process, through its HTTP API.
 *
 * All methods throw QueueUnavailableError when nothing answers at `url` or its queue is unavailable, VoicemailError
 * where the archive is at fault, and RemoteError for everything else.
 *
 * @param url where the API is: `http://127.0.0.1:8080`
 * @param token the bearer token.
 */
export function createRemoteOperations(url: string, token: string): RemoteOperations {
  const { origin } = new URL(url);
  const options = {
    connections: CONNECTIONS,
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: ANSWER_TIMEOUT_MS,
    bodyTimeout: ANSWER_TIMEOUT_MS,
  };
  // The API is on this machine, so no proxy is used.
  const dispatcher = createDispatcher(options, undefined);

  /** @returns the answer, or a problem of one of the `expected` codes. */
  const call = async <T>(
    { method, path, query, body }: RemoteCall,
    schema: z.ZodType<T>,
    expected: readonly string[] = [],
  ): Promise<T | Problem> => {
    const { statusCode, json } = await exchange({
      method,
      path,
      ...(query && { query: definedOnly(query) }),
      headers: {
        authorization: `Bearer ${token}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    if (statusCode < 300) {
      const answer = schema.safeParse(json);
      if (answer.success) return answer.data;
    }
    const problem = Problem.safeParse(json);
    if (!problem.success) {
      throw new RemoteError(
        `the API at ${url} answered ${statusCode} with something that is not understood here: is it another version?`,
      );
    }
    if (expected.includes(problem.data.code)) return problem.data;
    throw errorOf(problem.data);
  };

  const exchange = async (request: Omit<Dispatcher.RequestOptions, 'origin'>) => {
    let text: string;
    let statusCode: number;
    try {
      const response = await dispatcher.request({ origin, ...request });
      statusCode = response.statusCode;
      text = await response.body.text();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new QueueUnavailableError(
        `the process that holds the queue does not answer at ${url}: ${reason}`,
        {
          cause,
        },
      );
    }
    // No text at all is what 204 answers.
    return { statusCode, json: text === '' ? undefined : parseJson(text) };
  };

  return {
    async enqueue(requests) {
      const results: EnqueueResult[] = new Array(requests.length);
      for (const { indexes, requests: alike } of groupAlike(requests)) {
        const [{ botId, priority, force, maybe } = { botId: '' }] = alike;
        const body = {
          sessionIds: alike.map(({ sessionId }) => sessionId),
          botId,
          ...(priority && { priority }),
          ...(force && { force }),
          ...(maybe && { maybe }),
        };
        const answer = succeed(await call({ method: 'POST', path: '/v1/sessions', body }, EnqueueAnswer));
        for (const [position, result] of answer.results.entries()) {
          results[indexes[position] ?? position] = { ...result, botId };
        }
      }
      return results;
    },
    async view({ sessionId, botId }) {
      const answer = await call(
        { method: 'GET', path: `/v1/sessions/${sessionId}`, query: { botId } },
        SessionViewSchema,
        ['SESSION_NOT_FOUND', 'ERASED'],
      );
      return isProblem(answer) ? undefined : answer;
    },
    async list(query) {
      return succeed(
        await call({ method: 'GET', path: '/v1/sessions', query: { ...query } }, SessionPageSchema),
      );
    },
    async retry({ sessionId, botId }: SessionRef) {
      const answer = await call(
        { method: 'POST', path: `/v1/sessions/${sessionId}/retry`, query: { botId } },
        RetryAnswer,
        ['SESSION_NOT_FOUND', 'ERASED', 'NOT_FAILED'],
      );
      if (!isProblem(answer)) return answer.outcome;
      return answer.code === 'NOT_FAILED' ? 'not-failed' : 'unknown';
    },
    async retryAll(code) {
      const body = code === undefined ? { all: true } : { code };
      return succeed(await call({ method: 'POST', path: '/v1/sessions/retry', body }, RetrySessionsAnswer))
        .retried;
    },
    async cancel({ sessionId, botId }: SessionRef) {
      const answer = await call(
        { method: 'DELETE', path: `/v1/sessions/${sessionId}`, query: { botId } },
        CancelAnswer,
        ['SESSION_NOT_FOUND', 'NOT_WAITING'],
      );
      if (!isProblem(answer)) return answer.outcome;
      return answer.code === 'NOT_WAITING' ? 'not-waiting' : 'unknown';
    },
    async cancelAll(query) {
      const body = { ...query, ...(!query.code && !query.backfills && { all: true }) };
      return succeed(await call({ method: 'POST', path: '/v1/sessions/cancel', body }, CancelAllAnswer))
        .cancelled;
    },
    async pause() {
      succeed(await call({ method: 'PUT', path: '/v1/pause' }, PauseAnswer));
    },
    async resume() {
      succeed(await call({ method: 'DELETE', path: '/v1/pause' }, PauseAnswer));
    },
    async stats() {
      const { oldestQueuedSeconds: _, ...stats } = succeed(
        await call({ method: 'GET', path: '/v1/stats' }, Stats),
      );
      return stats;
    },
    backfills: createRemoteBackfills(async (request, schema) => {
      const answer = await call(request, schema, ['NOT_FOUND']);
      return isProblem(answer) ? undefined : answer;
    }),
    custody: createRemoteCustody(async (request, schema, expected) => {
      const answer = await call(request, schema, expected);
      if (!isProblem(answer)) return { answer };
      const code = expected.find((one) => one === answer.code);
      if (code === undefined) throw errorOf(answer);
      return { code, detail: answer.detail };
    }),
    completeness: {
      start: async (order) =>
        succeed(await call({ method: 'POST', path: '/v1/completeness', body: order }, CompletenessRunSchema)),
      async run(id) {
        const path = `/v1/completeness/${encodeURIComponent(id)}`;
        const answer = await call({ method: 'GET', path }, CompletenessRunSchema, ['NOT_FOUND']);
        return isProblem(answer) ? undefined : answer;
      },
      async reports(botId, days) {
        const query = { botId, from: days[0], to: days.at(-1) };
        const path = '/v1/completeness';
        return succeed(await call({ method: 'GET', path, query }, CompletenessAnswer)).days;
      },
    },
    close: () => dispatcher.destroy(),
  };
}

/** The most sessions in one request of the API, which is for one bot and one priority. */
function groupAlike(
  requests: readonly EnqueueRequest[],
): { readonly indexes: number[]; readonly requests: EnqueueRequest[] }[] {
  const groups: { key: string; indexes: number[]; requests: EnqueueRequest[] }[] = [];
  const open = new Map<string, (typeof groups)[number]>();
  for (const [index, request] of requests.entries()) {
    const key = JSON.stringify([
      request.botId,
      request.priority ?? 'live',
      request.force === true,
      request.maybe === true,
    ]);
    let group = open.get(key);
    if (!group || group.requests.length === MAX_SESSIONS_PER_REQUEST) {
      group = { key, indexes: [], requests: [] };
      open.set(key, group);
      groups.push(group);
    }
    group.indexes.push(index);
    group.requests.push(request);
  }
  return groups;
}

function isProblem(answer: unknown): answer is Problem {
  return typeof answer === 'object' && answer !== null && 'title' in answer && 'detail' in answer;
}

function succeed<T extends object>(answer: T | Problem): T {
  if (isProblem(answer)) throw errorOf(answer);
  return answer;
}

function errorOf({ code, detail, hint }: Problem): Error {
  if (code === 'QUEUE_UNAVAILABLE') return new QueueUnavailableError(detail);
  return isErrorCode(code)
    ? new VoicemailError(code, detail, { ...(hint !== undefined && { hint }) })
    : new RemoteError(detail, code);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON at all: reported like any other answer that can't be read.
    return undefined;
  }
}

function definedOnly(
  query: Readonly<Record<string, string | number | undefined>>,
): Record<string, string | number> {
  return Object.fromEntries(
    Object.entries(query).filter((entry): entry is [string, string | number] => entry[1] !== undefined),
  );
}

/** A request to another process's API. */
interface RemoteCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
}

/** Makes a request; `undefined` for a problem of the code `NOT_FOUND`, all others are thrown. */
export type CallRemote = <T>(call: RemoteCall, schema: z.ZodType<T>) => Promise<T | undefined>;

/** Backfills on the queue of another process, through its HTTP API. */
function createRemoteBackfills(call: CallRemote): BackfillOperations {
  const get = (id: string) =>
    call({ method: 'GET', path: `/v1/backfills/${encodeURIComponent(id)}` }, BackfillViewSchema);
  const must = <T>(answer: T | undefined): T => {
    if (answer === undefined)
      throw new Error('the API of the process that holds the queue knows no backfills');
    return answer;
  };
  return {
    start: async (order) =>
      must(await call({ method: 'POST', path: '/v1/backfills', body: order }, BackfillViewSchema)),
    view: get,
    async cancel(id) {
      const path = `/v1/backfills/${encodeURIComponent(id)}`;
      try {
        return (await call({ method: 'DELETE', path }, BackfillViewSchema)) && 'cancelled';
      } catch (error) {
        if (error instanceof RemoteError && error.code === 'NOT_WAITING') return 'ended';
        throw error;
      }
    },
    list: async () => must(await call({ method: 'GET', path: '/v1/backfills' }, BackfillList)).backfills,
    sessions: async (id, limit) => ((await get(id))?.missingSessions ?? []).slice(0, limit),
    async schedules() {
      const { schedules } = must(await call({ method: 'GET', path: '/v1/schedules' }, ScheduleList));
      return schedules.map(({ name, cron, lookbackMs, nextRunAt }) => ({
        name,
        cron,
        lookbackMs,
        nextRunAt: nextRunAt === undefined ? undefined : Date.parse(nextRunAt),
      }));
    },
    async setSchedule({ name, cron, lookbackMs }) {
      const body = { cron, lookback: `${lookbackMs}ms` };
      await call({ method: 'PUT', path: `/v1/schedules/${encodeURIComponent(name)}`, body }, ScheduleView);
    },
    async removeSchedule(name) {
      const path = `/v1/schedules/${encodeURIComponent(name)}`;
      return (
        (await call(
          { method: 'DELETE', path },
          Nothing.transform(() => true),
        )) ?? false
      );
    },
  };
}

/** A request of these routes. */
interface CustodyCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
}

/** Makes a request; a problem with one of the expected codes is returned, any other is thrown. */
export type CallCustody = <Code extends Problem['code'], T>(
  call: CustodyCall,
  schema: z.ZodType<T>,
  expected: readonly Code[],
) => Promise<
  { readonly answer: T } | { readonly answer?: never; readonly code: Code; readonly detail: string }
>;

/** Custody of the sessions of another process, through its HTTP API. */
function createRemoteCustody(call: CallCustody): CustodyOperations {
  const at = ({ sessionId, botId }: SessionRef, what: string) => ({
    path: `/v1/sessions/${sessionId}/${what}`,
    query: { botId },
  });
  return {
    async erase({ sessionId, botId }, options = {}) {
      const request = { method: 'POST' as const, ...at({ sessionId, botId }, 'erase'), body: options };
      const result = await call(request, EraseAnswer, ['HELD', 'LOCKED']);
      if (result.answer) return result.answer;
      const why = result.code === 'HELD' ? 'held' : 'locked';
      return { sessionId, botId, outcome: 'refused', why, message: result.detail };
    },
    async erasure(session) {
      return (await call({ method: 'GET', ...at(session, 'erasure') }, Erasure, ['NOT_FOUND'])).answer;
    },
    async setHold({ sessionId, botId }, reason) {
      const body = reason === undefined ? {} : { reason };
      const request = { method: 'PUT' as const, ...at({ sessionId, botId }, 'hold'), body };
      const { answer } = await call(request, HoldAnswer, ['ERASED']);
      return answer ?? { sessionId, botId, outcome: 'erased' };
    },
    async releaseHold({ sessionId, botId }) {
      const request = { method: 'DELETE' as const, ...at({ sessionId, botId }, 'hold') };
      const { answer } = await call(request, ReleaseAnswer, ['NOT_HELD']);
      return answer ?? { sessionId, botId, outcome: 'not-held' };
    },
    async hold(session) {
      return (await call({ method: 'GET', ...at(session, 'hold') }, Hold, ['NOT_HELD'])).answer;
    },
    async holds(botId) {
      const request = { method: 'GET' as const, path: '/v1/holds', query: { botId } };
      const { answer } = await call(request, HoldList, []);
      return [...(answer?.holds ?? [])];
    },
  };
}
