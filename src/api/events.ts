import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import type { SessionEvent } from '../domain/views.ts';
import { type EventFeed, type EventSubscription, InvalidEventIdError } from '../jobs/event-feed.ts';
import { type Logger, withLogFields } from '../util/log.ts';
import type { LoginCookies } from './login/login-cookie.ts';
import { watchAccess } from './login/watch-access.ts';
import { ApiError } from './problem.ts';
import { EventStream, EventsQuery } from './schemas/sessions.ts';
import type { ZodServer } from './validation.ts';

/** What the route of events works with. */
export interface EventRoutesOptions {
  /** Without it there is no such route. */
  readonly events?: EventFeed;
  /** How often a client gets a comment while nothing happens, in milliseconds. */
  readonly heartbeatMs?: number | undefined;
  /** Without them nobody can log in. */
  readonly logins?: LoginCookies | undefined;
  readonly log: Logger;
}

/** The media type of server-sent events. */
const MEDIA_TYPE = 'text/event-stream';
/** Shorter than proxies keep silent connections, of which 30 seconds are the shortest known. */
const HEARTBEAT_MS = 15_000;
/** The number of heartbeats after which a client that reads nothing is dropped. */
const MISSED_HEARTBEATS = 2;
/** After how long a browser comes back when the connection was lost. */
const RECONNECT_MS = 3_000;
/** What is written for a client before it has to take some of it. */
const BUFFER_BYTES = 64 * 1024;

/**
 * `GET /events`: what happens to sessions, as server-sent events (WHATWG HTML, 9.2). `app` adds the `/v1`.
 *
 * A client that sends `Last-Event-ID` (browsers do so by themselves) or `?lastEventId=` gets what it missed, as far
 * as the queue still has it. One that does not take what it is sent is dropped, and comes back in the same way. The
 * stream ends with the credentials, and with a log-out.
 */
export function addEventRoutes(
  app: ZodServer,
  { events, heartbeatMs, logins, log }: EventRoutesOptions,
): void {
  if (!events) return;
  const open = new Set<EventSubscription>();
  app.addHook('preClose', async () => {
    for (const subscription of open) subscription.close();
  });

  app.get(
    '/events',
    {
      // A HEAD request would be answered by a stream that is never read and never ends.
      exposeHeadRoute: false,
      schema: {
        tags: ['sessions'],
        summary: 'What happens to sessions, as server-sent events',
        querystring: EventsQuery,
        response: { 200: EventStream },
        answers: MEDIA_TYPE,
        problems: [400, 503],
      },
    },
    async (request, reply) => {
      const subscription = await subscribe(events, lastEventId(request, request.query.lastEventId));
      open.add(subscription);
      const stream = new PassThrough({ highWaterMark: BUFFER_BYTES });
      const stopWatching = watchAccess(request, () => subscription.close(), { logins, log });
      stream.once('close', () => {
        stopWatching();
        open.delete(subscription);
        subscription.close();
      });
      // Gone while it was waited for.
      if (request.raw.socket.destroyed) stream.destroy();
      writeEvents(subscription, stream, heartbeatMs ?? HEARTBEAT_MS).catch((error: unknown) => {
        if (!stream.destroyed)
          log.warn({ requestId: request.id, err: error }, 'a client of the events was dropped');
        stream.destroy();
      });
      return reply
        .headers({
          'content-type': `${MEDIA_TYPE}; charset=utf-8`,
          'cache-control': 'no-store, no-transform',
          // nginx would hold events back until it has a buffer full of them.
          'x-accel-buffering': 'no',
        })
        .send(stream);
    },
  );
}

function lastEventId(
  request: Pick<FastifyRequest, 'headers'>,
  fromQuery: string | undefined,
): string | undefined {
  const header = request.headers['last-event-id'];
  // An empty one is what a browser that has seen no event yet may send.
  return (typeof header === 'string' && header.trim()) || fromQuery || undefined;
}

async function subscribe(events: EventFeed, after: string | undefined): Promise<EventSubscription> {
  try {
    // What it opens is for those who come later as well, so it is not logged as this request's.
    return await withLogFields({}, () => events.subscribe(after));
  } catch (error) {
    if (error instanceof InvalidEventIdError) throw new ApiError(400, 'INVALID_REQUEST', error.message);
    throw error;
  }
}

/** Writes events as they come and a comment where none comes, until the subscription is closed. */
async function writeEvents(
  subscription: EventSubscription,
  stream: PassThrough,
  heartbeatMs: number,
): Promise<void> {
  stream.write(`retry: ${RECONNECT_MS}\n\n`);
  for (;;) {
    const events = await subscription.next(heartbeatMs);
    if (!events) break;
    const text = events.length === 0 ? ': nothing new\n\n' : events.map(frame).join('');
    if (!stream.write(text)) {
      const signal = AbortSignal.any([
        subscription.closed,
        AbortSignal.timeout(heartbeatMs * MISSED_HEARTBEATS),
      ]);
      await once(stream, 'drain', { signal });
    }
  }
  stream.end();
}

/** JSON holds no line breaks, so one `data` line is enough. */
function frame({ id, name, session }: SessionEvent): string {
  return `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(session)}\n\n`;
}
