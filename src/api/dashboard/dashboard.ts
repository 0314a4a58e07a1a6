import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import type { Job, Queue } from 'bullmq';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { jobProgress, parseFailureReason, type SessionJob } from '../../jobs/session-job.ts';
import type { SessionQueue } from '../../jobs/session-queue.ts';
import { issuesText } from '../../operations/input.ts';
import type { Logger } from '../../util/log.ts';
import { assertPermitted } from '../access.ts';
import { addLoginRoutes, admitToPage, type LoginOptions, type LoginPlace } from '../login/login.ts';
import { ApiError, asApiError, PROBLEM_CONTENT_TYPE, problemOf } from '../problem.ts';
import type { ZodServer } from '../validation.ts';

/** Where the queue in a browser is. */
const DASHBOARD_PATH = '/dashboard';
const BOARD_PATH = `${DASHBOARD_PATH}/queues`;
const PLACE: LoginPlace = { prefix: DASHBOARD_PATH, home: DASHBOARD_PATH };

/** What the dashboard works with. */
export interface DashboardOptions {
  readonly queue: SessionQueue;
  readonly login: LoginOptions;
  readonly log: Logger;
}

/** Bull Board needs scripts and styles of its own, and requests a web font, which it does not get. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
  // Without a referrer, browsers do not say where a form comes from either.
  'referrer-policy': 'same-origin',
};

/**
 * `GET /dashboard/queues`: the queue in a browser (Bull Board), in the words of the queue's library and to be read
 * alone. `GET /dashboard` leads there. Both take the credentials of the API, or those of who has logged in.
 */
export function addDashboard(app: ZodServer, { queue, login, log }: DashboardOptions): void {
  addLoginRoutes(app, login, PLACE);
  app.register(async (dashboard: ZodServer) => {
    dashboard.addHook('onRequest', async (request, reply) => {
      reply.headers(HEADERS);
      try {
        await admitToPage(request, reply, login, PLACE);
        if (reply.sent) return reply;
        if (request.identity) assertPermitted(request.identity, 'read');
        refuseChange(request);
        checkQuery(request);
      } catch (error) {
        // Here, since Bull Board would answer it in its own way.
        return refuse(reply, error);
      }
    });
    dashboard.get(DASHBOARD_PATH, async (_request, reply) => reply.redirect(BOARD_PATH, 303));
    dashboard.register(bullBoard(queue, log), { prefix: BOARD_PATH });
  });
}

/** @throws ApiError 405 */
function refuseChange({ method }: Pick<FastifyRequest, 'method'>): void {
  if (method === 'GET' || method === 'HEAD') return;
  throw new ApiError(405, 'METHOD_NOT_ALLOWED', 'this page only shows the queue; use the API to change it', {
    headers: { allow: 'GET, HEAD' },
  });
}

function bullBoard(queue: SessionQueue, log: Logger) {
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
        miscLinks: [{ text: "Operator's page", url: '/' }],
      },
    },
  });
  serverAdapter.setBasePath(BOARD_PATH);
  serverAdapter.setErrorHandler((error) => {
    // It decodes parts of queries once more than it should.
    const fault = asApiError(error instanceof URIError ? malformedQuery(error) : error);
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

/** @throws ApiError 400 for a query that is invalid, or too large. */
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
  throw new ApiError(400, 'INVALID_REQUEST', `the query is not valid: ${issuesText(checked.error)}`);
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
    new DashboardQueue(sessions as unknown as Queue, 'Sessions', 'Voicemails being archived'),
    new DashboardQueue(
      transcripts as unknown as Queue,
      'Transcripts',
      'Archived sessions whose transcript is awaited',
    ),
  ];
}

/** Bull Board's view of a queue, to be read alone, with jobs called by their sessions. */
class DashboardQueue extends BullMQAdapter {
  constructor(queue: Queue, displayName: string, description: string) {
    super(queue, { displayName, description, readOnlyMode: true, allowRetries: false });
    this.setFormatter('name', title);
    this.setFormatter('progress', shownProgress);
  }

  override async getJob(id: string): Promise<Job | undefined> {
    const job = await super.getJob(id);
    return job && present(job);
  }

  override async getJobs(...range: Parameters<BullMQAdapter['getJobs']>): Promise<Job[]> {
    return (await super.getJobs(...range)).map(present);
  }
}

/** Whether a job has come to its end without a failure; the last check for a transcript returns nothing. */
function isDone({ returnvalue, finishedOn, failedReason }: Job): boolean {
  return Boolean(returnvalue) || (finishedOn !== undefined && !failedReason);
}

function present(job: Job): Job {
  // What an earlier attempt left: an archived session has no error.
  if (isDone(job)) {
    const { error: _, nextAttemptAt: __, polls: ___, ...rest } = jobProgress(job as unknown as SessionJob);
    Object.assign(job, { progress: rest, failedReason: undefined });
  }
  // Paths of this program's files help nobody: the reason has the code and the message.
  job.stacktrace = [];
  return job;
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
