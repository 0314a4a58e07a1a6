import type { IncomingMessage, ServerResponse } from 'node:http';
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifySchemaCompiler,
  FastifySerializerCompiler,
  FastifyTypeProvider,
  RawServerDefault,
} from 'fastify';
import { z } from 'zod';
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

/** How many things wrong with a request are told at once. */
const MAX_FAULTS_TOLD = 5;

/** What is wrong with a value, each thing with the name of its field. */
export function sayFaults({ issues }: z.ZodError): string {
  const told = issues
    .slice(0, MAX_FAULTS_TOLD)
    .map(({ path, message }) => (path.length > 0 ? `${z.core.toDotPath(path)}: ${message}` : message));
  const rest = issues.length - told.length;
  if (rest > 0) told.push(`and ${rest} more`);
  return told.join('; ');
}

/** Checks a part of a request; what is wrong becomes a 400 that names each field. */
export const validatorCompiler: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  return (data: unknown) => {
    const result = schema.safeParse(data);
    if (result.success) return { value: result.data };
    const place = PLACES[httpPart ?? ''] ?? 'the request';
    return {
      error: new ApiError(400, 'INVALID_REQUEST', `${place} is not valid: ${sayFaults(result.error)}`),
    };
  };
};

/** Answers are made of typed parts, so they are not checked again on their way out. */
export const serializerCompiler: FastifySerializerCompiler<z.ZodType> = () => (data) => JSON.stringify(data);
