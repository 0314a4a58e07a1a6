import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifySchemaCompiler,
  FastifySerializerCompiler,
  FastifyTypeProvider,
  RawServerDefault,
} from 'fastify';
import type { z } from 'zod';
import { issuesText } from '../operations/input.ts';
import { ApiError } from './problem.ts';

/** Lets Fastify's handlers know the types of their zod schemas: parsed input, and what may be answered. */
export interface ZodTypes extends FastifyTypeProvider {
  readonly validator: this['schema'] extends z.ZodType ? z.output<this['schema']> : unknown;
  readonly serializer: this['schema'] extends z.ZodType ? z.input<this['schema']> : unknown;
}

/** A Fastify server whose routes are described by zod schemas. */
export type ZodServer = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypes
>;

/** Where Fastify takes each part of a request from, in words. */
const PLACES: Readonly<Record<string, string>> = {
  body: 'the body',
  querystring: 'the query',
  params: 'the path',
  headers: 'the headers',
};

/** Checks a part of a request; what is wrong becomes a 400 that names each field. */
export const validatorCompiler: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  return (data: unknown) => {
    const result = schema.safeParse(httpPart === 'querystring' ? withoutEmpty(data) : data);
    if (result.success) return { value: result.data };
    const place = PLACES[httpPart ?? ''] ?? 'the request';
    return {
      error: new ApiError(400, 'INVALID_REQUEST', `${place} is not valid: ${issuesText(result.error)}`),
    };
  };
};

/** A parameter without a value, as in `?state=&code=`, is as good as none. */
function withoutEmpty(query: unknown): unknown {
  return Object.fromEntries(Object.entries(query ?? {}).filter(([, value]) => value !== ''));
}

/** Answers are made of typed parts, so they are not checked again on their way out. */
export const serializerCompiler: FastifySerializerCompiler<z.ZodType> = () => (data) => JSON.stringify(data);

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** The text of a body. @throws ApiError 400 when it is not UTF-8, which JSON has to be (RFC 8259). */
export function decodeBody(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new ApiError(400, 'INVALID_REQUEST', 'the body is not UTF-8', { cause });
  }
}

/** @throws ApiError 415 for a compressed body, which is not supported. */
export function refuseCompressed(headers: IncomingHttpHeaders): void {
  const encoding = headers['content-encoding'];
  if (encoding === undefined || /^(identity)?$/i.test(encoding.trim())) return;
  throw new ApiError(415, 'UNSUPPORTED_MEDIA_TYPE', 'send the body uncompressed, without Content-Encoding', {
    headers: { 'accept-encoding': 'identity' },
  });
}

/** Text would let web pages post across sites; clients that announce JSON may still send nothing at all. */
export function acceptJsonOnly(app: ZodServer): void {
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    try {
      return parseJson(request, decodeBody(body), done);
    } catch (error) {
      return done(error as ApiError, undefined);
    }
  });
}

/** Hands the body on as it came, whatever it is called: see `request.body`. */
export function acceptRaw(app: ZodServer): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser<Buffer>('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
}
