import { z } from 'zod';
import { MAX_REASON_CHARACTERS } from '../domain/custody.ts';
import { ERROR_CODES } from '../domain/errors.ts';
import { LISTED_STATES, type ListQuery } from '../domain/requests.ts';
import { ID_PATTERN, MIN_SEARCH_CHARACTERS } from '../domain/session.ts';
import { printable } from '../util/text.ts';

/** Sessions in one request at most. */
export const MAX_SESSIONS_PER_REQUEST = 10_000;
/** Sessions on one page at most. */
export const MAX_PAGE_SIZE = 1_000;

const INVALID_ID = 'must be 1 to 128 of A-Z a-z 0-9 _ -';

/** A session id. */
export const SessionId = z
  .string()
  .regex(ID_PATTERN, INVALID_ID)
  .meta({ examples: ['67ab573f3685d1ba99541234'] });
/** A bot id. */
export const BotId = z
  .string()
  .regex(ID_PATTERN, INVALID_ID)
  .meta({ examples: ['st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e'] });
export const Code = z.enum(ERROR_CODES);

/** `{id}` in a path. */
export const SessionParams = z.strictObject({ id: SessionId });

/** Why a session is erased or held. */
const Reason = z
  .string()
  .max(MAX_REASON_CHARACTERS)
  .optional()
  .describe('kept beside the session, so it is not to name persons');

/** `POST /v1/sessions/{id}/erase` */
export const EraseBody = z.strictObject({
  reason: Reason,
  dryRun: z.boolean().optional().describe('only say what would be deleted'),
});

/** `PUT /v1/sessions/{id}/hold` */
export const HoldBody = z.strictObject({ reason: Reason });

/** `POST /v1/sessions` */
export const EnqueueBody = z
  .strictObject({
    sessionIds: z.array(SessionId).min(1).max(MAX_SESSIONS_PER_REQUEST),
    botId: BotId.optional().describe('their bot; without it the default bot (KORE_BOT_ID)'),
    priority: z
      .enum(['live', 'backfill'])
      .optional()
      .describe(
        '"backfill" waits behind everything "live", which is the default for up to 1,000 sessions; more go behind',
      ),
    force: z.boolean().optional().describe('archive again although the archive has it'),
    maybe: z
      .boolean()
      .optional()
      .describe('they may have no voicemail: having none is counted and is no failure'),
  })
  .meta({ id: 'EnqueueRequest', examples: [{ sessionIds: ['67ab573f3685d1ba99541234'] }] });

/** `GET /v1/sessions?state=&code=&botId=&from=&to=&q=&limit=&cursor=` */
export const ListQuerySchema = z.strictObject({
  state: z
    .enum(LISTED_STATES)
    .optional()
    .describe('only sessions in this state; partial: failed, with some recordings archived'),
  code: Code.optional().describe('only sessions whose last error has this code, and that are not archived'),
  botId: BotId.optional().describe('only sessions of this bot'),
  from: z.iso.datetime({ offset: true }).optional().describe('only sessions that were queued then or later'),
  to: z.iso.datetime({ offset: true }).optional().describe('only sessions that were queued then or earlier'),
  q: z
    .string()
    .regex(ID_PATTERN, INVALID_ID)
    .min(MIN_SEARCH_CHARACTERS)
    .optional()
    .describe(
      'only sessions whose id has this part, of 3 characters or more; capital letters find small ones',
    ),
  limit: z.coerce.number().int().min(1).max(MAX_PAGE_SIZE).optional().describe('default 100'),
  cursor: z
    .string()
    .max(300)
    .optional()
    .describe(
      'nextCursor of the page before; sessions that change their state between two pages are neither skipped nor repeated',
    ),
});

/** The members that were given. */
export function listQueryOf(given: z.output<typeof ListQuerySchema>): ListQuery {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** How many faults of a request are reported at once. */
const MAX_FAULTS_SHOWN = 5;

/** Names of members come from outside, and are shown with their faults. */
const MAX_FAULT_CHARACTERS = 200;

function shortKey(key: PropertyKey): PropertyKey {
  return typeof key === 'string' ? printable(key, MAX_FAULT_CHARACTERS) : key;
}

/** What is wrong with a value, each thing with the name of its field. */
export function issuesText({ issues }: z.ZodError): string {
  const faults = issues.slice(0, MAX_FAULTS_SHOWN).map(({ path, message }) => {
    const fault = printable(message, MAX_FAULT_CHARACTERS);
    return path.length > 0 ? `${z.core.toDotPath(path.map(shortKey))}: ${fault}` : fault;
  });
  const rest = issues.length - faults.length;
  if (rest > 0) faults.push(`and ${rest} more`);
  return faults.join('; ');
}
