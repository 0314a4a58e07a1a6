import { Validator } from '@seriousme/openapi-schema-validator';
import fc from 'fast-check';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import {
  BackfillBody,
  BackfillViewSchema,
  ScheduleBody,
  ScheduleView,
} from '../../src/api/schemas/backfills.ts';
import {
  CancelSessionsBody,
  EnqueueAnswer,
  Problem,
  RetryAllAnswer,
  RetryAnswer,
  RetrySessionsAnswer,
  RetrySessionsBody,
  SessionPageSchema,
  SessionViewSchema,
} from '../../src/api/schemas/sessions.ts';
import { ErrorCodes, Stats, WhoAmI } from '../../src/api/schemas/stats.ts';
import { EnqueueBody } from '../../src/operations/input.ts';
import { type ApiSetup, apiTokens, ask, openApiSetup } from '../support/api-server.ts';

/** What requests and answers are made of, by their names in the document. */
const EXAMPLES: readonly (readonly [string, z.ZodType])[] = [
  ['EnqueueRequest', EnqueueBody],
  ['EnqueueAnswer', EnqueueAnswer],
  ['SessionView', SessionViewSchema],
  ['SessionPage', SessionPageSchema],
  ['RetryAnswer', RetryAnswer],
  ['RetryAllAnswer', RetryAllAnswer],
  ['RetrySessionsRequest', RetrySessionsBody],
  ['RetrySessionsAnswer', RetrySessionsAnswer],
  ['CancelSessionsRequest', CancelSessionsBody],
  ['Stats', Stats],
  ['WhoAmI', WhoAmI],
  ['ErrorCodes', ErrorCodes],
  ['BackfillRequest', BackfillBody],
  ['BackfillView', BackfillViewSchema],
  ['ScheduleRequest', ScheduleBody],
  ['Schedule', ScheduleView],
  ['Problem', Problem],
];

const TOKEN = 'the-token-of-the-api';
const SECRET = 'the-secret-of-the-webhook';

/** What these tests read of an OpenAPI document. */
interface Document {
  readonly openapi: string;
  readonly info: { readonly title: string; readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}
interface Operation {
  readonly summary?: string;
  readonly security?: readonly Readonly<Record<string, unknown>>[];
  readonly parameters?: readonly { readonly in: string; readonly name: string; readonly schema: Schema }[];
  readonly requestBody?: {
    readonly required?: boolean;
    readonly content: Readonly<Record<string, { readonly schema: Schema }>>;
  };
  readonly responses: Readonly<
    Record<
      string,
      {
        readonly content?: Readonly<Record<string, unknown>>;
        readonly headers?: Readonly<Record<string, unknown>>;
      }
    >
  >;
}
interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly anyOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly examples?: readonly unknown[];
}

let setup: ApiSetup;
let url: string;
let document: Document;
beforeAll(async () => {
  setup = await openApiSetup();
  url = await setup.serve({
    tokens: apiTokens(TOKEN),
    webhook: { secrets: [SECRET], sessionIdPaths: ['/sessionId'] },
  });
  document = (await ask(url, '/openapi.json')).body as unknown as Document;
});
afterAll(() => setup.close());

const operations = () =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );

describe('the OpenAPI document', () => {
  it('the OpenAPI document is valid by a public validator', async () => {
    const result = await new Validator().validate(structuredClone(document) as never);

    expect(result).toEqual({ valid: true });
    expect(document.openapi).toBe('3.1.1');
  });

  it.each([
    ['post', '/v1/sessions'],
    ['get', '/v1/sessions'],
    ['get', '/v1/sessions/{id}'],
    ['post', '/v1/sessions/{id}/retry'],
    ['post', '/v1/retries'],
    ['post', '/v1/sessions/retry'],
    ['post', '/v1/sessions/cancel'],
    ['get', '/v1/stats'],
    ['get', '/v1/whoami'],
    ['get', '/v1/error-codes'],
    ['delete', '/v1/backfills/{id}'],
    ['get', '/v1/events'],
    ['get', '/v1/completeness'],
    ['post', '/v1/completeness'],
    ['get', '/v1/completeness/{id}'],
    ['post', '/v1/backfills'],
    ['get', '/v1/backfills'],
    ['get', '/v1/backfills/{id}'],
    ['get', '/v1/schedules'],
    ['put', '/v1/schedules/{name}'],
    ['delete', '/v1/schedules/{name}'],
    ['post', '/webhooks/voicemail'],
    ['get', '/livez'],
    ['get', '/readyz'],
    ['get', '/metrics'],
    ['get', '/'],
    ['get', '/dashboard'],
    ['get', '/openapi.json'],
    ['get', '/docs'],
  ])('the OpenAPI document describes %s %s', (method, path) => {
    expect(document.paths[path]?.[method]?.summary).toBeTypeOf('string');
  });

  it('the OpenAPI document uses the same schemas that requests are checked with', () => {
    expect(document.components.schemas.EnqueueRequest).toMatchObject({
      required: ['sessionIds'],
      additionalProperties: false,
      properties: {
        sessionIds: { minItems: 1, maxItems: 10_000, items: { pattern: '^[A-Za-z0-9_-]{1,128}$' } },
        priority: { enum: ['live', 'backfill'] },
      },
    });
    expect(document.paths['/v1/sessions']?.get?.parameters).toContainEqual(
      expect.objectContaining({
        name: 'limit',
        in: 'query',
        schema: { type: 'integer', minimum: 1, maximum: 1000 },
      }),
    );
  });

  it('the OpenAPI document names for each operation the answers, the errors and the roles', () => {
    for (const { path, method, operation } of operations()) {
      const where = `${method} ${path}`;
      const statuses = Object.keys(operation.responses);
      expect(
        statuses.some((status) => status.startsWith('2')),
        where,
      ).toBe(true);
      for (const status of statuses.filter((one) => one >= '400')) {
        expect(Object.keys(operation.responses[status]?.content ?? {}), where).toEqual([
          'application/problem+json',
        ]);
      }
      // Whatever else may happen, such as 408, 431 and 500.
      expect(statuses, where).toContain('default');
      expect(operation.responses['503']?.headers ?? {}, where).toEqual(
        statuses.includes('503') ? { 'retry-after': expect.anything() } : {},
      );
      if (path.startsWith('/v1/')) {
        expect(operation.security, where).toEqual([{ bearer: [] }]);
        expect(statuses, where).toEqual(expect.arrayContaining(['401', '403', '503']));
      }
    }
    expect(document.paths['/webhooks/voicemail']?.post?.security).toEqual([
      { webhookSecret: [] },
      { webhookBearer: [] },
      { webhookSignature: [] },
      { koreToken: [] },
    ]);
    expect(document.paths['/dashboard']?.get?.security).toEqual([{ bearer: [] }, { login: [] }]);
    for (const path of ['/livez', '/readyz', '/metrics', '/openapi.json', '/docs']) {
      expect(document.paths[path]?.get?.security, path).toBeUndefined();
    }
  });

  it('the OpenAPI document says which bodies may be left out', () => {
    const required = operations()
      .filter(({ operation }) => operation.requestBody)
      .map(({ path, method, operation }) => [`${method} ${path}`, operation.requestBody?.required]);

    expect(Object.fromEntries(required)).toEqual({
      'post /v1/sessions': true,
      'post /v1/sessions/retry': true,
      'post /v1/sessions/cancel': true,
      'post /v1/retries': false,
      'post /v1/sessions/{id}/erase': false,
      'put /v1/sessions/{id}/hold': false,
      'post /v1/cancellations': false,
      'post /v1/backfills': true,
      'post /v1/completeness': true,
      'put /v1/schedules/{name}': true,
      'post /webhooks/voicemail': true,
    });
  });

  it.each(EXAMPLES)('each example of %s in the OpenAPI document is valid by its schema', (name, schema) => {
    const examples = document.components.schemas[name]?.examples ?? [];

    expect(examples.length).toBeGreaterThan(0);
    for (const example of examples) expect(schema.parse(example)).toEqual(example);
  });

  it('each example in the OpenAPI document is what the server answers', async () => {
    const examples = document.components.schemas.EnqueueRequest?.examples ?? [];
    expect(examples.length).toBeGreaterThan(0);

    for (const json of examples) {
      const headers = { authorization: `Bearer ${TOKEN}` };
      expect((await ask(url, '/v1/sessions', { json, headers })).status).toBe(202);
    }
  });
});

describe('GET /docs', () => {
  it('GET /docs shows the OpenAPI document in a browser that cannot connect to other servers', async () => {
    const page = await ask(url, '/docs');

    expect(page.status).toBe(200);
    expect(page.headers['content-type']).toMatch(/^text\/html/);
    expect(page.headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self';/);
    const linked = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, link]) => String(link));
    expect(linked.length).toBeGreaterThan(3);
    for (const link of linked) expect((await ask(url, link)).status, link).toBe(200);
    expect((await ask(url, '/docs/json')).body).toEqual(document);
  });
});

/** Values of a schema; now and then one of another kind. */
function valuesOf(schema: Schema): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 4, arbitrary: rightValuesOf(schema) }, { weight: 1, arbitrary: anything() });
}

function rightValuesOf(schema: Schema): fc.Arbitrary<unknown> {
  const { $ref, anyOf, properties, required = [], items, pattern, minimum, maximum } = schema;
  const named = $ref === undefined ? undefined : document.components.schemas[$ref.split('/').at(-1) ?? ''];
  if (named) return rightValuesOf(named);
  if (anyOf) return fc.oneof(...anyOf.map(rightValuesOf));
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (pattern !== undefined) return fc.stringMatching(new RegExp(pattern));
  switch (schema.type) {
    case 'object': {
      const fields = Object.entries(properties ?? {}).map(
        ([name, field]) => [name, valuesOf(field)] as const,
      );
      const requiredKeys = [...required] as never[];
      return fc.oneof(
        fc.record(Object.fromEntries(fields), { requiredKeys }),
        fc.dictionary(fc.string(), anything()),
      );
    }
    case 'array':
      return fc.array(items ? valuesOf(items) : anything(), { maxLength: 20 });
    case 'integer':
      return fc.integer({
        ...(minimum !== undefined && { min: minimum }),
        ...(maximum !== undefined && { max: maximum }),
      });
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    default:
      return fc.string();
  }
}

function anything(): fc.Arbitrary<unknown> {
  return fc.oneof(fc.jsonValue(), fc.string({ unit: 'binary' }), fc.double(), fc.bigInt().map(String));
}

/** Anything that can stand in a header: visible, and no more. */
const headerText = () =>
  fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)) });

/** A request of one operation, more or less as the document wants it. */
function requestsOf(path: string, method: string, operation: Operation) {
  const parameters = operation.parameters ?? [];
  const values = (place: string) =>
    fc.record(
      Object.fromEntries(
        parameters
          .filter((parameter) => parameter.in === place)
          .map(({ name, schema }) => [name, valuesOf(schema).map(textOf)]),
      ),
      place === 'path' ? {} : { requiredKeys: [] },
    );
  const body = Object.values(operation.requestBody?.content ?? {}).map(({ schema }) => valuesOf(schema));
  return fc.record({
    method: fc.constant(method.toUpperCase()),
    path: values('path').map((found) =>
      path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(wellFormed(found[name] ?? ''))),
    ),
    query: fc.oneof(values('query'), fc.dictionary(fc.string(), fc.string())),
    body: fc.option(
      fc.oneof(
        ...body.map((value) => value.map((one) => JSON.stringify(one) ?? '')),
        fc.string({ unit: 'binary' }),
      ),
      { nil: undefined, freq: body.length > 0 ? 8 : 1 },
    ),
    contentType: fc.oneof(
      { weight: 8, arbitrary: fc.constant('application/json') },
      { weight: 1, arbitrary: headerText() },
    ),
    headers: fc.oneof(
      { weight: 4, arbitrary: fc.constant({ authorization: `Bearer ${TOKEN}`, auth: SECRET }) },
      {
        weight: 1,
        arbitrary: fc.record({
          authorization: headerText(),
          auth: headerText(),
          token: headerText(),
          'x-signature': headerText(),
          'x-request-id': headerText(),
        }),
      },
    ),
  });
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
}

/** Half a surrogate pair can't be sent in a URL. */
function wellFormed(text: string): string {
  return text.toWellFormed();
}

it('random requests that follow the OpenAPI document more or less never cause a server error', async () => {
  const all = fc.oneof(
    ...operations().map(({ path, method, operation }) => requestsOf(path, method, operation)),
  );
  const seen = new Set<number>();

  await fc.assert(
    fc.asyncProperty(all, async ({ method, path, query, body, contentType, headers }) => {
      const pairs = Object.entries(query).map(([name, value = '']) => [wellFormed(name), wellFormed(value)]);
      const target = `${url}${path}?${new URLSearchParams(pairs as [string, string][])}`;
      const isBodied = body !== undefined && method !== 'GET';
      const answer = await request(target, {
        method: method as 'GET',
        headers: { ...headers, ...(isBodied && { 'content-type': contentType }) },
        ...(isBodied && { body }),
      });
      seen.add(answer.statusCode);
      // Events never end.
      if (/^text\/event-stream/.test(String(answer.headers['content-type']))) {
        answer.body.destroy();
        return;
      }
      const text = await answer.body.text();
      expect(answer.statusCode, text).toBeLessThan(500);
      if (answer.statusCode >= 400) expect(Problem.safeParse(JSON.parse(text)).success, text).toBe(true);
    }),
    { numRuns: 600 },
  );

  // Not all of them were refused before they reached a route.
  expect([...seen]).toEqual(expect.arrayContaining([200, 202, 400, 401]));
});
