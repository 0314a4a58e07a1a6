import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import type { Job, Queue } from 'bullmq';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ApiToken } from '../../config/config.ts';
import type { AuditLog } from '../../domain/audit-log.ts';
import type { SessionRef } from '../../domain/session.ts';
import { jobProgress, parseFailureReason, type SessionJob, sessionOfJob } from '../../jobs/session-job.ts';
import type { SessionQueue } from '../../jobs/session-queue.ts';
import { sayFaults } from '../../operations/input.ts';
import type { Logger } from '../../util/log.ts';
import type { Guard } from '../access.ts';
import { entryOf } from '../audit.ts';
import { ApiError, asApiError, PROBLEM_CONTENT_TYPE, problemOf } from '../problem.ts';
import type { ZodServer } from '../validation.ts';
import {
  addLoginRoutes,
  admitToDashboard,
  DASHBOARD_PATH,
  type LoginOptions,
  RETRY_ONLY_STYLE,
} from './login.ts';
import { createDashboardSessions } from './session.ts';

/** What the dashboard works with. */
export interface DashboardOptions {
  /** Without it there is no dashboard. */
  readonly queue?: SessionQueue;
  readonly guard: Guard;
  readonly http: { readonly tokens: readonly ApiToken[] };
  /** Notes who has logged in, and who retries. */
  readonly auditLog?: AuditLog | undefined;
  readonly log: Logger;
}

/** Beside reading, this is what the dashboard may do. */
const ALLOWED_CHANGES = new Set([
  '/api/queues/:queueName/:jobId/retry',
  '/api/queues/:queueName/retry/:queueStatus',
]);

/** Bull Board needs scripts and styles of its own, and asks for a web font, which it does not get. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
  // Without a referrer, browsers do not tell where a form comes from either.
  'referrer-policy': 'same-origin',
};

/**
 * `GET /dashboard`: the queue in a browser (Bull Board), to read it and to retry what failed. It takes the
 * credentials of the API, or a session that `/dashboard/login` opens for who has them.
 */
export function addDashboard(app: ZodServer, options: DashboardOptions): void {
  const { queue, guard, http, auditLog, log } = options;
  if (!queue) return;
  const sessions = createDashboardSessions({ tokens: http.tokens, guard, ended: queue });
  const login: LoginOptions = { guard, sessions, auditLog };
  app.register(
    async (dashboard: ZodServer) => {
      dashboard.addHook('onRequest', async (_request, reply) => {
        reply.headers(HEADERS);
      });
      addLoginRoutes(dashboard, login);
      dashboard.register(async (board: ZodServer) => {
        board.addHook('onRequest', async (request, reply) => {
          try {
            await admitToDashboard(request, reply, login);
            if (reply.sent) return reply;
            checkQuery(request);
          } catch (error) {
            // Here, since Bull Board would answer it in its own way.
            return refuse(reply, error);
          }
        });
        board.addHook('onSend', async (_request, reply, payload) =>
          typeof payload === 'string' && String(reply.getHeader('content-type')).startsWith('text/html')
            ? payload.replace('</head>', `${RETRY_ONLY_STYLE}</head>`)
            : payload,
        );
        if (auditLog) auditRetries(board, auditLog);
        board.register(bullBoard(queue, guard.isOpen, log));
      });
    },
    { prefix: DASHBOARD_PATH },
  );
}

/** Notes the changes that people make here: all of them are retries. */
function auditRetries(board: ZodServer, auditLog: AuditLog): void {
  board.addHook('onSend', async (request, { statusCode }) => {
    if (request.method === 'GET' || request.method === 'HEAD' || statusCode >= 300) return;
    const { jobId, queueStatus } = request.params as { jobId?: string; queueStatus?: string };
    const session = jobId === undefined ? undefined : sessionOfJob(jobId);
    auditLog.record({
      ...entryOf(request, request.identity, 'dashboard'),
      action: 'retry',
      ...(session && { session }),
      ...(queueStatus !== undefined && { details: { all: queueStatus } }),
    });
  });
}

function bullBoard(queue: SessionQueue, isOpen: boolean, log: Logger) {
  const serverAdapter = new FastifyAdapter();
  createBullBoard({
    queues: dashboardQueues(queue),
    serverAdapter,
    options: {
      uiConfig: {
        boardTitle: 'Voicemail Archiver',
        hideDocsLink: true,
        hideRedisDetails: true,
        // It would ask for all clients of the server, which managed ones do not allow.
        showWorkers: false,
        ...(!isOpen && { miscLinks: [{ text: 'Log out', url: `${DASHBOARD_PATH}/logout` }] }),
      },
      handlerHooks: {
        before: async ({ method, route }) => {
          if (method === 'get' || ALLOWED_CHANGES.has(route)) return { allow: true };
          return { allow: false, status: 405, errorKey: 'ERRORS.QUEUE_READ_ONLY' };
        },
      },
    },
  });
  serverAdapter.setBasePath(DASHBOARD_PATH);
  serverAdapter.setErrorHandler((error) => {
    // It decodes parts of queries once more than it should.
    const fault = asApiError(error instanceof URIError ? malformedQuery(error) : error);
    if (fault.status === 409) return { status: 409, body: { error: problemOf(fault).detail } };
    // Statuses that Bull Board does not know, and faults of the request: the API's own handler answers.
    if (fault.status < 500 || fault.status === 503) throw fault;
    log.warn({ err: error, code: fault.code }, 'a request of the dashboard failed');
    return { status: 500, body: { error: problemOf(fault).detail } };
  });
  return serverAdapter.registerPlugin();
}

function malformedQuery(cause: URIError): ApiError {
  return new ApiError(400, 'INVALID_REQUEST', 'the query is malformed', { cause });
}

/** The jobs on one page of the board. */
const MAX_JOBS_PER_PAGE = 100;

const wholeNumber = (max: number) =>
  z
    .string()
    .regex(/^\d{1,9}$/, 'must be a whole number')
    .refine((text) => Number(text) >= 1 && Number(text) <= max, `must be from 1 to ${max}`);

/** What Bull Board bounds only from below; it checks the rest of a query by itself. */
const BoardQuery = z.looseObject({
  page: wholeNumber(100_000).optional(),
  jobsPerPage: wholeNumber(MAX_JOBS_PER_PAGE).optional(),
});

/** @throws ApiError 400 for a query that makes no sense, or asks for too much. */
function checkQuery({ query }: Pick<FastifyRequest, 'query'>): void {
  // Bull Board fails at what its own messages can't hold.
  if (
    /\p{Cc}/u.test(
      Object.entries(query ?? {})
        .flat(2)
        .join(''),
    )
  ) {
    throw new ApiError(400, 'INVALID_REQUEST', 'the query has control characters');
  }
  const checked = BoardQuery.safeParse(query);
  if (checked.success) return;
  throw new ApiError(400, 'INVALID_REQUEST', `the query is not valid: ${sayFaults(checked.error)}`);
}

function refuse(reply: FastifyReply, error: unknown): FastifyReply {
  const fault = asApiError(error);
  return reply
    .code(fault.status)
    .headers({ ...fault.headers, 'content-type': PROBLEM_CONTENT_TYPE })
    .send(JSON.stringify(problemOf(fault)));
}

/** The part of a job as Bull Board hands it to formatters. */
type ShownJob = Pick<SessionJob, 'name' | 'data' | 'progress' | 'failedReason'>;

/** The queues as the dashboard shows them: the sessions, and the transcripts awaited. */
function dashboardQueues(queue: SessionQueue): BullMQAdapter[] {
  const { sessions, transcripts } = queue.bullmq;
  return [
    new DashboardQueue(sessions as unknown as Queue, {
      displayName: 'Sessions',
      description: 'Voicemails being archived',
      retry: (session) => queue.retry(session),
    }),
    new DashboardQueue(transcripts as unknown as Queue, {
      displayName: 'Transcripts',
      description: 'Archived sessions whose transcript is awaited',
    }),
  ];
}

interface DashboardQueueOptions {
  readonly displayName: string;
  readonly description: string;
  /** Runs a failed session again; without it nothing can be changed. */
  readonly retry?: SessionQueue['retry'];
}

/** Bull Board's view of a queue, with jobs called by their sessions and retried as the API retries them. */
class DashboardQueue extends BullMQAdapter {
  readonly #retry: SessionQueue['retry'] | undefined;

  constructor(queue: Queue, { displayName, description, retry }: DashboardQueueOptions) {
    const options = {
      displayName,
      description,
      readOnlyMode: !retry,
      allowRetries: retry !== undefined,
      // Archived sessions are archived.
      allowCompletedRetries: false,
    };
    super(queue, options);
    this.#retry = retry;
    this.setFormatter('name', title);
    this.setFormatter('progress', shownProgress);
  }

  override async getJob(id: string): Promise<Job | undefined> {
    const job = await super.getJob(id);
    return job && this.#present(job);
  }

  override async getJobs(...range: Parameters<BullMQAdapter['getJobs']>): Promise<Job[]> {
    return (await super.getJobs(...range)).map((job) => this.#present(job));
  }

  #present(job: Job): Job {
    // What an earlier attempt left: an archived session has no error.
    if (job.returnvalue) {
      const { error: _, nextAttemptAt: __, polls: ___, ...rest } = jobProgress(job as unknown as SessionJob);
      Object.assign(job, { progress: rest, failedReason: undefined });
    }
    // Paths of this program's files, which tell nobody anything: the reason has the code and the message.
    job.stacktrace = [];
    job.retry = async (state) => {
      if (!this.#retry || state !== 'failed') {
        throw new ApiError(409, 'NOT_FAILED', 'only failed sessions can be retried');
      }
      // Somebody may have done so a moment ago, which is as good.
      await this.#retry(job.data as SessionRef);
    };
    return job;
  }
}

/** The session's id, and the code of its error where there is one. */
function title({ name, data, progress, failedReason }: ShownJob): string {
  const { error } = jobProgress({ progress });
  const code = error?.code ?? (failedReason ? parseFailureReason(failedReason).code : undefined);
  return [data.sessionId ?? name, ...(code ? [code] : [])].join(' · ');
}

function shownProgress(progress: SessionJob['progress']): object {
  const { transfer, nextAttemptAt, error, transcript } = jobProgress({ progress });
  return {
    ...transfer,
    ...(transcript && { transcript }),
    ...(nextAttemptAt && { nextAttemptAt }),
    ...(error && { error }),
  };
}
