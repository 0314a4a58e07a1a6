import type { z } from 'zod';
import type { SessionRef } from '../domain/session.ts';
import type { CustodyOperations } from '../operations/custody.ts';
import { EraseAnswer, Erasure, Hold, HoldAnswer, HoldList, ReleaseAnswer } from './schemas/custody.ts';
import type { Problem } from './schemas/sessions.ts';

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
export function createRemoteCustody(call: CallCustody): CustodyOperations {
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
