import { withinTime } from '../util/async.ts';
import { QueueUnavailableError } from './backends/backend.ts';

/** The longest that whoever enqueues waits for one answer of the queue. */
const ANSWER_TIMEOUT_MS = 5_000;

/**
 * Waits for an answer of the queue, but not for ever: neither Redis' driver nor PostgreSQL's notices within seconds
 * that a server hangs. What was asked may still be done later; asking for it again is safe.
 *
 * @throws QueueUnavailableError when there is none in time.
 */
export async function answered<T>(answer: Promise<T>): Promise<T> {
  if (await withinTime(answer, ANSWER_TIMEOUT_MS)) return answer;
  // Whoever asked is told below; how it ends later changes nothing about that.
  answer.catch(() => undefined);
  throw new QueueUnavailableError(`the queue gave no answer within ${ANSWER_TIMEOUT_MS / 1000} s`);
}
