/** The description of the API for people and programs, made of the very schemas that validate it. */

import { STATUS_CODES } from 'node:http';
import swagger from '@fastify/swagger';
import type { fastifySwaggerUi } from '@fastify/swagger-ui';
import type { FastifySchema } from 'fastify';
import type { OpenAPIV3, OpenAPIV3_1 } from 'openapi-types';
import { z } from 'zod';
import { importOptional, PackageMissingError } from '../util/optional-package.ts';
import { VERSION } from '../util/process.ts';
import { LOGIN_COOKIE } from './login/login-cookie.ts';
import { ApiError, PROBLEM_TYPE } from './problem.ts';
import { REQUEST_ID_HEADER } from './request-context.ts';
import { Problem } from './schemas/sessions.ts';
import type { ZodServer } from './validation.ts';

declare module 'fastify' {
  interface FastifySchema {
    /** Statuses of problems that this route answers beside those that all routes of its kind do. */
    problems?: readonly number[];
    /** The media type of its answers; JSON if nothing is said. */
    answers?: string;
  }
}

/** A piece of JSON Schema, or of an OpenAPI document. */
type Json = Record<string, unknown>;
/** Named schemas. */
type Schemas = Record<string, OpenAPIV3_1.SchemaObject>;

const INFO = {
  title: 'Voicemail Archiver',
  version: VERSION,
  description: [
    'Saves Kore.ai voicemails, with their transcripts, before their signed URLs expire.',
    '',
    'Errors are problem documents (RFC 9457) with a stable `code`. An answer of 503 says by `Retry-After` when to',
    `try again. Every answer has an \`${REQUEST_ID_HEADER}\`, the one that was sent or a new one.`,
  ].join('\n'),
  license: { name: 'MIT', identifier: 'MIT' },
};

const TAGS = [
  { name: 'sessions', description: 'Sessions in the queue and in the archive' },
  { name: 'custody', description: 'Erasing sessions, and holding them' },
  { name: 'backfills', description: 'What Kore has and the archive has not' },
  { name: 'schedules', description: 'Backfills on a timetable' },
  { name: 'intake', description: 'Notifications of new voicemails' },
  { name: 'health', description: 'For monitoring of the process' },
  { name: 'description', description: 'The API about itself' },
];

const SECURITY_SCHEMES = {
  bearer: {
    type: 'http',
    scheme: 'bearer',
    description:
      'one of `API_TOKEN`, or a JSON web token of the configured issuer (`API_JWKS_URL`); its role decides what it may do, and 403 says what it may not',
  },
  webhookSecret: { type: 'apiKey', in: 'header', name: 'auth', description: 'one of `WEBHOOK_SECRET`' },
  webhookBearer: { type: 'http', scheme: 'bearer', description: 'one of `WEBHOOK_SECRET`' },
  webhookSignature: {
    type: 'apiKey',
    in: 'header',
    name: 'x-signature',
    description: '`sha256=` and the HMAC-SHA256 of the raw body by one of `WEBHOOK_SECRET`, in hex',
  },
  koreToken: {
    type: 'apiKey',
    in: 'header',
    name: 'token',
    description: 'a JSON web token of the Kore app: HS256 by its client secret, `appId` being its client id',
  },
  login: {
    type: 'apiKey',
    in: 'cookie',
    name: LOGIN_COOKIE,
    description:
      'what `/login` gives to a browser in exchange for a bearer token; taken from pages of this server alone',
  },
} as const;

const RETRY_AFTER = { type: 'integer', description: 'after how many seconds to try again' };

/** How the routes under `/v1` are protected. */
const BEARER = [{ bearer: [] }];

/** Pages for browsers, which come from libraries and bring no description of their own. */
const PAGES: Readonly<Record<string, FastifySchema>> = {
  '/': {
    tags: ['sessions'],
    summary: "The operator's page",
    description:
      'How things are, sessions, failures, completeness, backfills. Without credentials a browser is sent to `/login` (303), everybody else gets 401.',
    security: [{ bearer: [] }, { login: [] }],
    answers: 'text/html',
    response: { 200: z.string(), 303: z.string() },
    problems: [401, 403],
  },
  '/docs': {
    tags: ['description'],
    summary: 'This description, for people',
    answers: 'text/html',
    response: { 200: z.string() },
  },
  '/dashboard': {
    tags: ['sessions'],
    summary: 'The queue in a browser',
    description:
      'Leads to `/dashboard/queues`. Without credentials a browser is sent to `/dashboard/login` (303), everybody else gets 401.',
    security: [{ bearer: [] }, { login: [] }],
    answers: 'text/html',
    response: { 200: z.string(), 303: z.string() },
    problems: [401, 403],
  },
};

/** A content security policy under which the documentation's page works, without any other server. */
const DOCS_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/**
 * Describes the routes that are registered after it and have a `summary`. Routes under `/v1` are described as
 * protected by a bearer token, others by what their `security` says.
 */
export function collectDocumentation(app: ZodServer): void {
  const components: Schemas = {};
  const optionalBodies: OptionalBody[] = [];
  app.register(swagger, {
    openapi: {
      openapi: '3.1.1',
      info: INFO,
      tags: TAGS,
      components: { securitySchemes: SECURITY_SCHEMES },
    },
    transform: ({ schema, url: registered, route: { method } }) => {
      // The first page of a plugin is registered with a slash at its end, and answers without it as well.
      const url = registered.replace(/(.)\/$/, '$1');
      if (mayBeMissing(schema?.body)) optionalBodies.push({ url, methods: [method].flat() });
      return { url, schema: describeRoute(schema ?? {}, url, components) };
    },
    transformObject: (document) => {
      if (!('openapiObject' in document)) return document.swaggerObject;
      const { openapiObject } = document;
      openapiObject.components ??= {};
      Object.assign(openapiObject.components, { schemas: components });
      markOptional(openapiObject.paths ?? {}, optionalBodies);
      return openapiObject;
    },
  });
}

/** A body that a request may leave out. */
interface OptionalBody {
  readonly url: string;
  readonly methods: readonly string[];
}

function mayBeMissing(body: unknown): boolean {
  return body instanceof z.ZodType && body.safeParse(undefined).success;
}

/** The library takes every body for required. */
function markOptional(
  paths: Readonly<Record<string, OpenAPIV3.PathItemObject | undefined>>,
  bodies: readonly OptionalBody[],
): void {
  for (const { url, methods } of bodies) {
    const path = paths[url.replace(/:(\w+)/g, '{$1}')];
    for (const method of methods) {
      const body = path?.[method.toLowerCase() as OpenAPIV3.HttpMethods]?.requestBody;
      if (body && 'required' in body) body.required = false;
    }
  }
}

/** `GET /openapi.json`, and `GET /docs` for people. */
export function addDocumentationRoutes(app: ZodServer): void {
  app.get(
    '/openapi.json',
    {
      schema: {
        tags: ['description'],
        summary: 'This description, as an OpenAPI document',
        response: { 200: z.record(z.string(), z.unknown()) },
      },
    },
    async () => ({ ...app.swagger() }),
  );
  app.register(addDocumentationPage);
}

/** The page is of a package of its own, which small installations leave out. */
async function addDocumentationPage(app: ZodServer): Promise<void> {
  let swaggerUi: typeof fastifySwaggerUi;
  try {
    ({ fastifySwaggerUi: swaggerUi } = await importOptional(
      '@fastify/swagger-ui',
      () => import('@fastify/swagger-ui'),
    ));
  } catch (error) {
    if (!(error instanceof PackageMissingError)) throw error;
    app.get('/docs', { schema: PAGES['/docs'] ?? {} }, async () => {
      throw new ApiError(404, 'NOT_FOUND', `${error.message}; /openapi.json describes the API all the same`);
    });
    return;
  }
  app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: DOCS_POLICY,
    theme: { title: 'Voicemail Archiver API' },
    uiConfig: { layout: 'BaseLayout', validatorUrl: null },
  });
}

function describeRoute(own: FastifySchema, url: string, components: Schemas): FastifySchema {
  const schema = own.summary === undefined ? PAGES[url] : own;
  if (schema === undefined) return { hide: true };
  const { body, querystring, params, headers, response, problems = [], answers, ...rest } = schema;
  const isProtected = url.startsWith('/v1/');
  const statuses = new Set([
    ...(body || querystring || params ? [400] : []),
    ...(isProtected ? [401, 403, 503] : []),
    ...(body ? [413, 415] : []),
    ...problems,
  ]);
  const toJson = (part: unknown) => toJsonSchema(part as z.ZodType, components);
  return {
    ...(isProtected && { security: BEARER }),
    ...rest,
    ...(params !== undefined && { params: toJson(params) }),
    ...(querystring !== undefined && { querystring: toJson(querystring) }),
    ...(headers !== undefined && { headers: toJson(headers) }),
    ...(body !== undefined && { body: toJson(body) }),
    response: Object.fromEntries([
      ...Object.entries(response ?? {}).map(([status, part]) => [
        status,
        answer(status, answers ?? 'application/json', toJson(part)),
      ]),
      ...[...statuses].sort().map((status) => [status, problem(status, toJson(Problem))]),
      ['default', problem('default', toJson(Problem))],
    ]),
  };
}

function answer(status: string, mediaType: string, schema: Json): Json {
  return {
    description: STATUS_CODES[status] ?? 'Answer',
    content: { [mediaType]: { schema } },
  };
}

function problem(status: number | 'default', schema: Json): Json {
  return {
    description: STATUS_CODES[status] ?? 'Whatever else goes wrong',
    content: { [PROBLEM_TYPE]: { schema } },
    ...(status === 503 && { headers: { 'retry-after': RETRY_AFTER } }),
  };
}

/** A zod schema as JSON Schema, in which named schemas are under `#/components/schemas/`. */
function toJsonSchema(schema: z.ZodType, components: Schemas): Json {
  const { $schema: _, $defs, ...json } = z.toJSONSchema(schema, { io: 'input', override: simplify });
  Object.assign(components, rename($defs ?? {}));
  return rename(json) as Json;
}

/** Leaves out keywords that mean something else in OpenAPI than in zod, and those that do not help people. */
function simplify({ jsonSchema }: { jsonSchema: z.core.JSONSchema.BaseSchema }): void {
  delete jsonSchema.readOnly;
  if (jsonSchema.format === 'date-time') delete jsonSchema.pattern;
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
}

function rename(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(rename);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) =>
      key === '$ref' && typeof part === 'string'
        ? [key, part.replace('#/$defs/', '#/components/schemas/')]
        : [key, rename(part)],
    ),
  );
}
