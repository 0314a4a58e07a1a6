import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import type { WebhookConfig } from '../config/config.ts';
import { isValidId, type SessionRef } from '../domain/session.ts';
import type { Operations } from '../operations/operations.ts';
import { readPointer } from '../util/json.ts';
import {
  bearerToken,
  createKoreTokenCheck,
  createSecretCheck,
  createSignatureCheck,
  unauthorized,
} from './access.ts';
import { ApiError } from './problem.ts';
import { EnqueueAnswer } from './schemas/sessions.ts';
import { defaultBot } from './sessions.ts';
import { acceptRaw, decodeBody, type ZodServer } from './validation.ts';

/** What the webhook works with. */
export interface WebhookOptions {
  readonly operations: Operations;
  readonly http: { readonly webhook?: WebhookConfig | undefined };
  /** `KORE_BOT_ID` */
  readonly defaultBotId: string | undefined;
}

/** Nobody documents what a notification looks like; it is about one voicemail, so this is plenty. */
const BODY_LIMIT_BYTES = 1024 * 1024;

const BOT_ID_PATHS = ['/botId', '/metaInfo/botId'];

/** Where the id is, is configured: so this describes what is usual, and demands nothing. */
const Notification = z.record(z.string(), z.unknown()).meta({
  id: 'VoicemailNotification',
  description: 'any JSON object that has the session id where WEBHOOK_SESSION_ID_PATH says',
  examples: [
    { sessionId: '67ab573f3685d1ba99541234' },
    { metaInfo: { sessionId: '67ab573f3685d1ba99541234' } },
  ],
});

/**
 * `POST /webhooks/voicemail`: a notification queues its session. It answers 202 once the queue holds it. Without
 * `WEBHOOK_SECRET` there is no such route, and it answers 404.
 *
 * Any one of the four ways to authenticate will do. The body is read as what it is, JSON or a form, whatever its
 * content type says, but not before the sender is known.
 */
export function addWebhookRoutes(app: ZodServer, { operations, http, defaultBotId }: WebhookOptions): void {
  const { webhook } = http;
  const isAuthentic = webhook && createAuthentication(webhook);
  app.register(async (scope: ZodServer) => {
    acceptRaw(scope);
    scope.post(
      '/webhooks/voicemail',
      {
        bodyLimit: BODY_LIMIT_BYTES,
        onRequest: async () => {
          if (!webhook) throw new ApiError(404, 'NOT_FOUND', 'there is no webhook without WEBHOOK_SECRET');
        },
        // As it came: it is checked only after its sender.
        validatorCompiler: () => (value) => ({ value }),
        schema: {
          tags: ['intake'],
          summary: 'Queue the session of a new voicemail',
          description:
            'Authenticated by the secret in the header `auth` or as a bearer token, by an HMAC of the body, or by a token of the Kore app. 202 means that the queue holds the session; after 503 the sender has to try again. 404 where no webhook is configured (`WEBHOOK_SECRET`).',
          security: [
            { webhookSecret: [] },
            { webhookBearer: [] },
            { webhookSignature: [] },
            { koreToken: [] },
          ],
          body: Notification,
          response: { 202: EnqueueAnswer },
          problems: [401, 404, 503],
        },
      },
      async (request, reply) => {
        const bytes: unknown = request.body;
        const body = bytes instanceof Uint8Array ? bytes : new Uint8Array();
        if (!webhook || !(await isAuthentic?.(request.headers, body))) {
          throw unauthorized('the webhook is not authenticated: see WEBHOOK_SECRET');
        }
        const notification = parse(decodeBody(body), request.headers['content-type']);
        const session = sessionOf(notification, webhook.sessionIdPaths, defaultBotId);
        const results = await operations.enqueue([session]);
        return reply
          .code(202)
          .send({ results: results.map(({ sessionId, outcome }) => ({ sessionId, outcome })) });
      },
    );
  });
}

/** A function that tells whether a notification comes from somebody who knows a secret. */
function createAuthentication({
  secrets,
  app,
}: WebhookConfig): (headers: IncomingHttpHeaders, body: Uint8Array) => Promise<boolean> {
  const isSecret = createSecretCheck(secrets);
  const isSignature = createSignatureCheck(secrets);
  const isKoreToken = app && createKoreTokenCheck(app);
  return async (headers, body) => {
    const { auth, token } = headers;
    const signature = headers['x-signature'];
    const bearer = bearerToken(headers.authorization);
    if (typeof auth === 'string' && isSecret(auth)) return true;
    if (bearer !== undefined && isSecret(bearer)) return true;
    if (typeof signature === 'string' && isSignature(signature, body)) return true;
    return isKoreToken !== undefined && typeof token === 'string' && (await isKoreToken(token));
  };
}

function parse(text: string, contentType: string | undefined): unknown {
  if (/^application\/x-www-form-urlencoded\b/i.test(contentType ?? '')) {
    return Object.fromEntries(new URLSearchParams(text));
  }
  try {
    return JSON.parse(text);
  } catch {
    // Without the cause, which quotes the body.
    throw new ApiError(400, 'INVALID_REQUEST', 'the body is not JSON');
  }
}

/** @throws ApiError 400 when the notification names no session. */
function sessionOf(
  notification: unknown,
  paths: readonly string[],
  defaultBotId: string | undefined,
): SessionRef {
  const candidates = paths
    .map((path) => ({ path, value: readPointer(notification, path) }))
    .filter(({ value }) => value !== undefined && value !== null);
  const sessionId = candidates.map(({ value }) => value).find(isId);
  if (sessionId === undefined) {
    const places = (candidates.length > 0 ? candidates.map(({ path }) => path) : paths).join(', ');
    throw new ApiError(
      400,
      'INVALID_REQUEST',
      candidates.length > 0
        ? `what the body has at ${places} is no session id, which is a string of 1 to 128 of A-Z a-z 0-9 _ -`
        : `the body has no session id at ${places}; WEBHOOK_SESSION_ID_PATH says where to look`,
    );
  }
  const botId = BOT_ID_PATHS.map((path) => readPointer(notification, path)).find(isId);
  return { sessionId, botId: botId ?? defaultBot(defaultBotId) };
}

function isId(value: unknown): value is string {
  return typeof value === 'string' && isValidId(value);
}
