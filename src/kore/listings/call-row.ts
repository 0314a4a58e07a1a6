import { boundedCall, type CallMetadata } from '../../domain/call.ts';
import { isObject, readPointer } from '../../util/json.ts';

/**
 * Where rows have what, the likeliest first. Kore documents samples and no list of fields: of these names,
 * `sessionTags.callerNumber`, `tags`, `queues`, `direction` and the times are in them; the others are what other versions
 * and gateways may have. A row that has none of them says nothing of the call, which harms nobody.
 *
 * @see https://docs.kore.ai/ai-for-service/apis/automation/get-sessions-history
 */
const PLACES = {
  from: [
    '/sessionTags/callerNumber',
    '/callerNumber',
    '/from',
    '/caller',
    '/ani',
    '/customerInfo/phoneNumber',
    '/customerinfo/phoneNumber',
  ],
  to: ['/sessionTags/dialedNumber', '/dialedNumber', '/calledNumber', '/to', '/dnis', '/phoneNumber'],
  queue: ['/queues/0/name', '/queues/0', '/queueName', '/queue'],
  direction: ['/direction', '/callDirection'],
} as const;
const STARTED = ['/sessionStartTime', '/start_time', '/startTime'];
const ENDED = ['/sessionEndTime', '/end_time', '/endTime'];
const TAGS = ['/tags', '/sessionLevelTags', '/sessionTags/sessionTags'];

const MAX_TEXT_CHARACTERS = 256;
const MAX_TAGS = 20;

/** What a row of a listing says of its call; `undefined` where it says nothing. */
export function callOfRow(row: unknown): CallMetadata | undefined {
  const first = <T>(pointers: readonly string[], read: (value: unknown) => T | undefined): T | undefined => {
    for (const pointer of pointers) {
      const value = read(readPointer(row, pointer));
      if (value !== undefined) return value;
    }
    return undefined;
  };
  const texts = Object.entries(PLACES).map(([name, pointers]) => [name, first(pointers, asText)] as const);
  const startedAt = first(STARTED, asTime);
  const endedAt = first(ENDED, asTime);
  const tags = first(TAGS, asTags);
  return boundedCall({
    ...Object.fromEntries(texts.filter(([, text]) => text !== undefined)),
    ...(startedAt && { startedAt }),
    ...(endedAt && { endedAt }),
    ...(tags && { tags }),
  });
}

function asText(value: unknown): string | undefined {
  if (typeof value === 'number') return String(value);
  const text = typeof value === 'string' ? value.trim().slice(0, MAX_TEXT_CHARACTERS) : '';
  return text === '' ? undefined : text;
}

/** ISO 8601 in UTC; times without a zone are taken to be in UTC, which is what was asked for. */
function asTime(value: unknown): string | undefined {
  if (typeof value !== 'string' || value.length > MAX_TEXT_CHARACTERS) return undefined;
  const hasZone = /(?:Z|[+-]\d\d:?\d\d)$/.test(value);
  const time = new Date(hasZone ? value : `${value.trim().replace(' ', 'T')}Z`);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}

function asTags(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const tags = value.slice(0, MAX_TAGS).flatMap((tag) => asText(isObject(tag) ? tag.name : tag) ?? []);
  return tags.length === 0 ? undefined : tags;
}
