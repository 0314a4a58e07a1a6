/** The shapes of erasing and holding sessions. */

import { z } from 'zod';
import { BotId, SessionId } from '../../operations/input.ts';

const SESSION = '67ab573f3685d1ba99541234';
const BOT = 'st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e';
const Count = z.int().nonnegative();
const Time = z.iso.datetime();

/** The answer of `POST /v1/sessions/{id}/erase`. */
export const EraseAnswer = z
  .object({
    sessionId: SessionId,
    botId: BotId,
    outcome: z.enum(['erased', 'would-erase', 'already-erased']),
    objects: Count.describe('objects that were deleted, or would be'),
    versions: Count.describe('their versions, delete markers among them'),
    erasedAt: Time.exactOptional(),
  })
  .meta({
    id: 'EraseAnswer',
    examples: [
      {
        sessionId: SESSION,
        botId: BOT,
        outcome: 'erased',
        objects: 3,
        versions: 5,
        erasedAt: '2026-01-05T09:30:00.000Z',
      },
    ],
  });

/** The answer of `GET /v1/sessions/{id}/erasure`. */
export const Erasure = z
  .object({
    sessionId: SessionId,
    botId: BotId,
    state: z.enum(['erasing', 'erased']).describe('`erasing`: it was interrupted; erase the session again'),
    erasedAt: Time,
    reason: z.string().exactOptional(),
  })
  .meta({ id: 'Erasure' });

/** A legal hold. */
export const Hold = z
  .object({ sessionId: SessionId, botId: BotId, setAt: Time, reason: z.string().exactOptional() })
  .meta({ id: 'Hold' });

/** The answer of `PUT /v1/sessions/{id}/hold`. */
export const HoldAnswer = z
  .object({
    sessionId: SessionId,
    botId: BotId,
    outcome: z.enum(['held', 'already-held']),
    hold: Hold,
    isLocked: z.boolean().describe("whether the bucket's own legal hold is on the objects as well"),
  })
  .meta({ id: 'HoldAnswer' });

/** The answer of `DELETE /v1/sessions/{id}/hold`. */
export const ReleaseAnswer = z
  .object({ sessionId: SessionId, botId: BotId, outcome: z.literal('released') })
  .meta({ id: 'ReleaseAnswer' });

/** `GET /v1/holds?botId=` */
export const HoldsQuery = z.strictObject({ botId: BotId.optional().describe('only those of this bot') });

/** The answer of `GET /v1/holds`. */
export const HoldList = z.object({ holds: z.array(Hold).readonly() }).meta({ id: 'HoldList' });
