import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import type { Job, Queue } from 'bullmq';
import type { SessionQueue } from '../jobs/session-queue.ts';
import { jobProgress, parseFailureReason, type SessionJob } from '../jobs/view.ts';
import type { SessionRef } from '../session.ts';
import { ApiError } from './problem.ts';

/** The part of a job as Bull Board hands it to formatters. */
type ShownJob = Pick<SessionJob, 'name' | 'data' | 'progress' | 'failedReason'>;

/** The queues as the dashboard shows them: the sessions, and the transcripts awaited. */
export function dashboardQueues(queue: SessionQueue): BullMQAdapter[] {
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
