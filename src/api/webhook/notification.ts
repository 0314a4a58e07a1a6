import { type CallMetadata, isSecretName } from '../../domain/call.ts';
import { isValidId } from '../../domain/session.ts';
import { isObject, parseJson, readPointer } from '../../util/json.ts';
import { printable } from '../../util/text.ts';

/** What a notification says. */
export type Notification =
  | {
      readonly kind: 'session';
      readonly sessionId: string;
      /** Where it names one. */
      readonly botId: string | undefined;
      /** It tells that a conversation has ended, and not that there is a voicemail. */
      readonly isMaybe: boolean;
    }
  /** It is about a conversation that goes on; `event` is one of {@link OTHER_EVENTS}. */
  | { readonly kind: 'other-event'; readonly event: string }
  | {
      readonly kind: 'no-session';
      /** JSON pointers to what stands where an id should be, and is none. */
      readonly wrong: readonly string[];
    };

/** Kore nests what its contact-centre events tell in such a member. */
const EVENT_MEMBER = 'CCAIMetaInfo';
/** Where that member may be, and nothing: the paths of the configuration hold below each of these. */
const PLACES = ['', `/${EVENT_MEMBER}`, `/data/${EVENT_MEMBER}`, `/context/${EVENT_MEMBER}`] as const;
const BOT_ID_PATHS = ['/botId', '/metaInfo/botId'];
/** Members that may name an event, or hold an object that does. */
const EVENT_NAME_PATHS = [
  '/event',
  '/eventName',
  '/eventType',
  '/event/eventType',
  '/event/name',
  '/type',
  '/name',
];

/**
 * Events of Kore's that are plainly not about the end of a conversation.
 *
 * @see https://docs.kore.ai/xo/sdk/botkit/botkit-sdk-events
 */
export const OTHER_EVENTS = [
  'agent_accepted',
  'agent_joined_conversation',
  'agent_exited_conversation',
  'conversation_transfer',
  'message_read',
  'typing_started',
  'typing_stopped',
] as const;
/** Events that tell the end of a conversation: `conversation_terminated`, `disposition_submitted`. */
const END_EVENT =
  /^(?:conversation|session|call)[ _-]?(?:terminat|end|clos|complet|disconnect)|^disposition/i;

/** Members that hold members as JSON text may hold such members in turn, so often. */
const MAX_UNFOLDED_LEVELS = 3;
/** Of a member that is kept. */
const MAX_META_LEVELS = 5;
const MAX_META_CHARACTERS = 1_024;
const MAX_NAMES = 30;
const MAX_NAME_CHARACTERS = 40;
const MAX_EVENT_CHARACTERS = 64;

/**
 * Reads a notification: of a voicemail, by whoever configured it, or an event of Kore's.
 *
 * @param received the body, parsed. Members of it that are JSON text are read as what they hold.
 * @param paths JSON pointers to where the session id may be, the likeliest first.
 */
export function readNotification(received: unknown, paths: readonly string[]): Notification {
  const body = unfolded(received, MAX_UNFOLDED_LEVELS);
  const event = eventOf(body);
  const other = OTHER_EVENTS.find((name) => name === event?.toLowerCase());
  if (other !== undefined) return { kind: 'other-event', event: other };

  const found = PLACES.flatMap((place) => paths.map((path) => `${place}${path}`))
    .map((path) => ({ path, value: readPointer(body, path) }))
    .filter(({ value }) => value !== undefined && value !== null);
  const sessionId = found.map(({ value }) => asId(value)).find((id) => id !== undefined);
  if (sessionId === undefined) return { kind: 'no-session', wrong: found.map(({ path }) => path) };
  const botId = PLACES.flatMap((place) => BOT_ID_PATHS.map((path) => asId(readPointer(body, place + path))));
  return {
    kind: 'session',
    sessionId,
    botId: botId.find((id) => id !== undefined),
    isMaybe: isEnd(body, event),
  };
}

/**
 * What a notification has at some pointers, by the last parts of these; `undefined` where it has nothing there. What may
 * be a secret by its name is left out, and so is what is long.
 */
export function readMeta(received: unknown, pointers: readonly string[]): CallMetadata['meta'] {
  const body = unfolded(received, MAX_UNFOLDED_LEVELS);
  const members = pointers.flatMap((pointer) => {
    const found = PLACES.map((place) => readPointer(body, place + pointer)).find((value) => value != null);
    const name = (pointer.split('/').at(-1) ?? '').replaceAll('~1', '/').replaceAll('~0', '~');
    const value = withoutSecrets(found, MAX_META_LEVELS);
    const isKept = value !== undefined && JSON.stringify(value).length <= MAX_META_CHARACTERS;
    return isKept ? [[name, value] as const] : [];
  });
  return members.length === 0 ? undefined : Object.fromEntries(members);
}

function withoutSecrets(value: unknown, levels: number): unknown {
  if (Array.isArray(value)) {
    return levels <= 0 ? undefined : value.map((one) => withoutSecrets(one, levels - 1) ?? null);
  }
  if (!isObject(value) || JSON.isRawJSON(value)) return value;
  if (levels <= 0) return undefined;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !isSecretName(name))
      .map(([name, inner]) => [name, withoutSecrets(inner, levels - 1)]),
  );
}

/** The names of the members of a notification, and of the members of these: for a log, without any value. */
export function memberNames(received: unknown): string[] {
  const body = unfolded(received, MAX_UNFOLDED_LEVELS);
  if (!isObject(body)) return [];
  const names: string[] = [];
  for (const [name, value] of Object.entries(body)) {
    names.push(shown(name));
    if (isObject(value)) {
      for (const inner of Object.keys(value).slice(0, MAX_NAMES))
        names.push(`${shown(name)}.${shown(inner)}`);
    }
    if (names.length >= MAX_NAMES) break;
  }
  return names.slice(0, MAX_NAMES);
}

function shown(name: string): string {
  return printable(name, MAX_NAME_CHARACTERS);
}

/** A value whose members are what they hold where they are JSON text. */
function unfolded(value: unknown, levels: number): unknown {
  if (typeof value === 'string') {
    const inside = /^\s*\{/.test(value) ? parseJson(value) : undefined;
    return isObject(inside) ? unfolded(inside, levels - 1) : value;
  }
  if (!isObject(value) || levels <= 0) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, unfolded(inner, levels - 1)]),
  );
}

function asId(value: unknown): string | undefined {
  const id = typeof value === 'string' ? value.trim() : '';
  return isValidId(id) ? id : undefined;
}

/** The name of an event, where the notification has one. */
function eventOf(body: unknown): string | undefined {
  const names = PLACES.flatMap((place) => EVENT_NAME_PATHS.map((path) => readPointer(body, place + path)));
  const name = names.find((value) => typeof value === 'string' && value.length <= MAX_EVENT_CHARACTERS);
  return typeof name === 'string' ? name.trim() : undefined;
}

/** Whether it is an event of Kore's, which tells nothing of a voicemail unless by its name. */
function isEnd(body: unknown, event: string | undefined): boolean {
  if (event !== undefined && /voicemail/i.test(event)) return false;
  return (
    (event !== undefined && END_EVENT.test(event)) ||
    PLACES.slice(1).some((place) => isObject(readPointer(body, place)))
  );
}
