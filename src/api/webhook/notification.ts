import { type CallMetadata, isSecretName, isTelephoneNumber } from '../../domain/call.ts';
import { isValidId } from '../../domain/session.ts';
import { isObject, parseJson, readPointer } from '../../util/json.ts';
import { printable } from '../../util/text.ts';

/** What a notification says. */
export type IncomingNotification =
  | {
      readonly kind: 'session';
      readonly sessionId: string;
      /** Where it names one. */
      readonly botId: string | undefined;
      /** It says that a conversation has ended, and not that there is a voicemail. */
      readonly isMaybe: boolean;
    }
  /** It is about a conversation that goes on; `event` is one of {@link OTHER_EVENTS}. */
  | { readonly kind: 'other-event'; readonly event: string }
  | {
      readonly kind: 'no-session';
      /** JSON pointers to values in the place of an id that are no ids. */
      readonly wrong: readonly string[];
    };

/** Kore nests the content of its contact-centre events in such a member, at any place. Lower case. */
const EVENT_MEMBER = 'ccaimetainfo';
/** What forwards a notification puts it into such a member. Lower case. */
const ENVELOPES: ReadonlySet<string> = new Set([
  'data',
  'payload',
  'body',
  'event',
  'message',
  'notification',
  'detail',
  'context',
  'content',
  'request',
]);
/** How deep either is searched for, and among how many objects. */
const MAX_PLACE_LEVELS = 5;
const MAX_OBJECTS = 500;
const MAX_PLACES = 16;
const BOT_ID_PATHS = ['/botId', '/metaInfo/botId'];
/** Where an event of Kore's may have the caller's number, by the names that it has in listings. */
const CALLER_PATHS = ['/callerNumber', '/sessionTags/callerNumber', '/caller', '/from', '/ani'];
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
/** Events for the end of a conversation: `conversation_terminated`, `disposition_submitted`. */
const END_EVENT =
  /^(?:conversation|session|call)[ _-]?(?:terminat|end|clos|complet|disconnect)|^disposition/i;

/** How deep members with JSON texts may be nested. */
const MAX_UNFOLDED_LEVELS = 8;
/** Of a member that is kept. */
const MAX_META_LEVELS = 5;
const MAX_META_CHARACTERS = 1_024;
const MAX_NAMES = 30;
const MAX_NAME_CHARACTERS = 40;
const MAX_EVENT_CHARACTERS = 64;

/**
 * Reads a notification: of a voicemail, as configured in Kore, or an event of Kore.
 *
 * @param received the body, parsed. Members of it that are JSON text are read as what they hold.
 * @param paths JSON pointers to where the session id may be, the likeliest first.
 */
export function readNotification(received: unknown, paths: readonly string[]): IncomingNotification {
  const body = readBody(received);
  const places = placesOf(body);
  const event = eventOf(body, places);
  const other = OTHER_EVENTS.find((name) => name === event?.toLowerCase());
  if (other !== undefined) return { kind: 'other-event', event: other };

  const found = places
    .flatMap(({ pointer }) => paths.map((path) => pointer + path))
    .map((path) => ({ path, value: readPointer(body, path) }))
    .filter(({ value }) => value !== undefined && value !== null);
  const sessionId = found.map(({ value }) => asId(value)).find((id) => id !== undefined);
  if (sessionId === undefined) return { kind: 'no-session', wrong: found.map(({ path }) => path) };
  const botId = places.flatMap(({ pointer }) =>
    BOT_ID_PATHS.map((path) => asId(readPointer(body, pointer + path))),
  );
  return {
    kind: 'session',
    sessionId,
    botId: botId.find((id) => id !== undefined),
    isMaybe: isEnd(event, places),
  };
}

/**
 * What a notification has at some pointers, by the last parts of these; `undefined` where it has nothing there. What
 * may be a secret by its name is left out, and so is what is long.
 */
export function readMeta(received: unknown, pointers: readonly string[]): CallMetadata['meta'] {
  const body = readBody(received);
  const places = placesOf(body);
  const members = pointers.flatMap((pointer) => {
    const found = places
      .map((place) => readPointer(body, place.pointer + pointer))
      .find((value) => value != null);
    const name = (pointer.split('/').at(-1) ?? '').replaceAll('~1', '/').replaceAll('~0', '~');
    const value = withoutSecrets(found, MAX_META_LEVELS);
    const isKept = value !== undefined && JSON.stringify(value).length <= MAX_META_CHARACTERS;
    return isKept ? [[name, value] as const] : [];
  });
  return members.length === 0 ? undefined : Object.fromEntries(members);
}

/**
 * The caller's number, where an event of Kore has one. Kore does not document the members of such events, so only a
 * text that looks like a number is taken for one.
 */
export function readCaller(received: unknown): string | undefined {
  const body = readBody(received);
  return placesOf(body)
    .filter(({ isKoreEvent }) => isKoreEvent)
    .flatMap(({ pointer }) => CALLER_PATHS.map((path) => readPointer(body, pointer + path)))
    .find((value) => typeof value === 'string' && isTelephoneNumber(value)) as string | undefined;
}

function withoutSecrets(value: unknown, levels: number): unknown {
  if (Array.isArray(value)) {
    return levels <= 0 ? undefined : value.map((one) => withoutSecrets(one, levels - 1) ?? null);
  }
  if (!isObject(value)) return value;
  if (levels <= 0) return undefined;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !isSecretName(name))
      .map(([name, inner]) => [name, withoutSecrets(inner, levels - 1)]),
  );
}

/** The names of the members of a notification, and of the members of these: for a log, without any value. */
export function memberNames(received: unknown): string[] {
  const body = readBody(received);
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

/** What was received, with what is JSON text read as what it holds. A list of one notification is that notification. */
function readBody(received: unknown): unknown {
  const body = unfolded(received, MAX_UNFOLDED_LEVELS);
  return Array.isArray(body) && body.length === 1 ? unfolded(body[0], MAX_UNFOLDED_LEVELS) : body;
}

/** A value whose members are what they hold where they are JSON text, or the JSON text of such a text. */
function unfolded(value: unknown, levels: number): unknown {
  if (typeof value === 'string') {
    if (levels <= 0) return value;
    const inside = /^\s*["{]/.test(value) ? parseJson(value) : undefined;
    const unfoldedInside = inside === undefined ? undefined : unfolded(inside, levels - 1);
    return isObject(unfoldedInside) ? unfoldedInside : value;
  }
  if (!isObject(value) || levels <= 0) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, unfolded(inner, levels - 1)]),
  );
}

/** An object in which the paths of the configuration are looked up. */
interface Place {
  /** JSON pointer; empty for the whole body. */
  readonly pointer: string;
  readonly isKoreEvent: boolean;
}

/** The places of a notification, the likeliest first: the body itself, the content of Kore's events, and envelopes. */
function placesOf(body: unknown): readonly Place[] {
  const events: Place[] = [];
  const envelopes: Place[] = [];
  let level = [{ pointer: '', value: body, isInEnvelopes: true }];
  let objects = 0;
  for (let depth = 0; depth < MAX_PLACE_LEVELS && level.length > 0; depth += 1) {
    const next: typeof level = [];
    for (const { pointer, value, isInEnvelopes } of level) {
      if (!isObject(value)) continue;
      for (const [name, inner] of Object.entries(value)) {
        if (!isObject(inner) || objects >= MAX_OBJECTS) continue;
        objects += 1;
        const lower = name.length > MAX_NAME_CHARACTERS ? '' : name.toLowerCase();
        const place = { pointer: `${pointer}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}` };
        const isEnvelope = isInEnvelopes && ENVELOPES.has(lower);
        if (lower === EVENT_MEMBER) events.push({ ...place, isKoreEvent: true });
        else if (isEnvelope) envelopes.push({ ...place, isKoreEvent: false });
        next.push({ ...place, value: inner, isInEnvelopes: isEnvelope });
      }
    }
    level = next;
  }
  return [{ pointer: '', isKoreEvent: false }, ...[...events, ...envelopes].slice(0, MAX_PLACES)];
}

function asId(value: unknown): string | undefined {
  const id = typeof value === 'string' ? value.trim() : '';
  return isValidId(id) ? id : undefined;
}

/** The name of an event, where the notification has one. */
function eventOf(body: unknown, places: readonly Place[]): string | undefined {
  const names = places.flatMap(({ pointer }) =>
    EVENT_NAME_PATHS.map((path) => readPointer(body, pointer + path)),
  );
  const name = names.find((value) => typeof value === 'string' && value.length <= MAX_EVENT_CHARACTERS);
  return typeof name === 'string' ? name.trim() : undefined;
}

/** Whether it is an event of Kore. Only its name may say that there is a voicemail. */
function isEnd(event: string | undefined, places: readonly Place[]): boolean {
  if (event !== undefined && /voicemail/i.test(event)) return false;
  return (event !== undefined && END_EVENT.test(event)) || places.some(({ isKoreEvent }) => isKoreEvent);
}
