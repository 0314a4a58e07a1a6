import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ByteRange } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import type { ArchivedObject, ArchivedObjects, ObjectName } from '../operations/archived-objects.ts';
import type { CustodyOperations } from '../operations/custody.ts';
import { SessionParams } from '../operations/input.ts';
import type { Logger } from '../util/log.ts';
import { ApiError } from './problem.ts';
import { BotQuery, ObjectBytes, ObjectDocument, RecordingParams } from './schemas/sessions.ts';
import { absentSession, defaultBot } from './sessions.ts';
import type { ZodServer } from './validation.ts';

/** What the routes of archived objects work with. */
export interface ObjectRoutesOptions {
  /** Without them there are no such routes. */
  readonly objects?: ArchivedObjects;
  /** Knows which sessions were erased. */
  readonly custody?: Pick<CustodyOperations, 'erasure'> | undefined;
  /** `KORE_BOT_ID` */
  readonly defaultBotId: string | undefined;
  readonly log: Logger;
}

/** `GET /sessions/{id}/recordings/{n}`, `/transcript` and `/manifest`: what is archived; `app` adds the `/v1`. */
export function addObjectRoutes(
  app: ZodServer,
  { objects, custody, defaultBotId, log }: ObjectRoutesOptions,
): void {
  if (!objects) return;

  const send = async (
    request: FastifyRequest,
    reply: FastifyReply,
    session: SessionRef,
    name: ObjectName,
  ): Promise<FastifyReply> => {
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    const object = await objects.find(session, name, gone.signal);
    if (object === 'unknown') throw await absentSession(session, custody);
    if (object === 'none') {
      throw new ApiError(
        404,
        'NOT_FOUND',
        `the manifest of session ${session.sessionId} names no such object`,
      );
    }
    log.info(
      { who: request.identity?.name, session: session.sessionId, object: object.fileName },
      'an archived object is read',
    );
    return answer(request, reply, object, { gone: gone.signal, log });
  };
  const sessionOf = (sessionId: string, botId: string | undefined): SessionRef => ({
    sessionId,
    botId: botId ?? defaultBot(defaultBotId),
  });
  const docs = <Whole extends typeof ObjectBytes | typeof ObjectDocument>(
    summary: string,
    answers: string,
    whole: Whole,
  ) => ({
    tags: ['sessions'],
    summary,
    description: '`Range` may have one range; the `ETag` is the SHA-256.',
    querystring: BotQuery,
    response: { 200: whole, 206: ObjectBytes },
    answers,
    problems: [404, 410, 416],
  });

  app.get(
    '/sessions/:id/recordings/:n',
    {
      schema: {
        ...docs('A recording of an archived session', 'audio/*', ObjectBytes),
        params: RecordingParams,
      },
    },
    async (request, reply) => {
      const { id, n } = request.params;
      return send(request, reply, sessionOf(id, request.query.botId), { kind: 'recording', index: n });
    },
  );

  for (const kind of ['transcript', 'manifest'] as const) {
    app.get(
      `/sessions/:id/${kind}`,
      {
        schema: {
          ...docs(`The ${kind} of an archived session`, 'application/json', ObjectDocument),
          params: SessionParams,
        },
      },
      async (request, reply) =>
        send(request, reply, sessionOf(request.params.id, request.query.botId), { kind }),
    );
  }
}

async function answer(
  { method, headers }: Pick<FastifyRequest, 'method' | 'headers'>,
  reply: FastifyReply,
  object: ArchivedObject,
  { gone, log }: { readonly gone: AbortSignal; readonly log: Logger },
): Promise<FastifyReply> {
  const etag = `"${object.sha256}"`;
  if (headers['if-none-match'] === etag) return reply.code(304).header('etag', etag).send();
  const ifRange = headers['if-range'];
  const isSame = ifRange === undefined || ifRange === etag;
  const range = isSame ? parseRange(headers.range, object.bytes) : undefined;
  if (range === 'beyond') {
    throw new ApiError(416, 'RANGE_NOT_SATISFIABLE', `the object has ${object.bytes} bytes`, {
      headers: { 'content-range': `bytes */${object.bytes}` },
    });
  }
  // An empty stream: of anything else Fastify would send the length.
  const body = method === 'HEAD' ? Readable.from([]) : await object.open(range, gone);
  body.once('error', (error) => {
    if (!gone.aborted) log.warn({ err: error }, 'an archived object could not be read to its end');
  });
  if (range) reply.code(206).header('content-range', `bytes ${range.start}-${range.end}/${object.bytes}`);
  return reply
    .headers({
      etag,
      'accept-ranges': 'bytes',
      'content-type': object.contentType,
      'content-length': String(range ? range.end - range.start + 1 : object.bytes),
      'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(object.fileName)}`,
    })
    .send(body);
}

/**
 * The part in a `Range` (RFC 9110, 14.2); `undefined` for the whole, also where there are several parts
 * or the header makes no sense; `beyond` where there is no such part.
 */
export function parseRange(header: string | undefined, bytes: number): ByteRange | 'beyond' | undefined {
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? '') ?? [];
  if (first === '' && last === '') return undefined;
  if (first === '') {
    const length = Math.min(Number(last), bytes);
    return length === 0 ? 'beyond' : { start: bytes - length, end: bytes - 1 };
  }
  const start = Number(first);
  const end = last === '' ? bytes - 1 : Math.min(Number(last), bytes - 1);
  if (last !== '' && Number(last) < start) return undefined;
  return start < bytes ? { start, end } : 'beyond';
}
