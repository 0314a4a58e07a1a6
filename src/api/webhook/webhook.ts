import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import type { WebhookConfig } from '../../config/config.ts';
import { boundedCall, createCallFilter } from '../../domain/call.ts';
import type { EnqueueOutcome, EnqueueRequest } from '../../domain/requests.ts';
import type { WebhookMetrics } from '../../observability/metrics/work.ts';
import type { Operations } from '../../operations/operations.ts';
import { parseJson } from '../../util/json.ts';
import type { Logger } from '../../util/log.ts';
import { bearerToken, createSecretCheck, createSignatureCheck, type Guard, unauthorized } from '../access.ts';
import { ApiError } from '../problem.ts';
import { EnqueueAnswer } from '../schemas/sessions.ts';
import { defaultBot } from '../sessions.ts';
import { acceptRaw, decodeBody, type ZodServer } from '../validation.ts';
import { memberNames, readCaller, readMeta, readNotification } from './notification.ts';
import { createKoreTokenCheck, SignedBodies } from './tokens.ts';

/** What the webhook works with. */
export interface WebhookOptions {
  readonly operations: Operations;
  readonly http: { readonly webhook?: WebhookConfig | undefined };
  /** `KORE_BOT_ID` */
  readonly defaultBotId: string | undefined;
  readonly metrics?: { readonly webhook?: WebhookMetrics };
  readonly guard: Pick<Guard, 'slow'>;
  readonly log: Logger;
}

/** The format of notifications is not documented. One concerns one voicemail, so this is plenty. */
const BODY_LIMIT_BYTES = 1024 * 1024;

/** Where the id is, is configured: so this describes what is usual, and demands nothing. */
const KoreNotification = z.record(z.string(), z.unknown()).meta({
  id: 'VoicemailNotification',
  description:
    'any JSON object that has the session id where WEBHOOK_SESSION_ID_PATH says, or the same below CCAIMetaInfo',
  examples: [
    { sessionId: '67ab573f3685d1ba99541234' },
    { metaInfo: { sessionId: '67ab573f3685d1ba99541234' } },
    { event: 'conversation_terminated', CCAIMetaInfo: { sessionId: '67ab573f3685d1ba99541234' } },
  ],
});

/**
 * `POST /webhooks/voicemail`: a notification queues its session. It answers 202 once the queue holds it. Without
 * `WEBHOOK_SECRET` there is no such route, and it answers 404.
 *
 * Any one of the four ways to authenticate will do. The body is read as what it is, JSON or a form, whatever its
 * content type says, but not before the sender is known.
 *
 * Kore does not send a notification again: every notification that names a session is accepted. An event for the end of
 * a conversation is accepted as a maybe; one about a conversation that goes on is counted and answered 202.
 */
export function addWebhookRoutes(app: ZodServer, options: WebhookOptions): void {
  const { webhook } = options.http;
  const authenticate = webhook && createAuthentication(webhook);
  const acceptNotification = createIntake(options);
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
          body: KoreNotification,
          response: { 202: EnqueueAnswer },
          problems: [401, 404, 503],
        },
      },
      async (request, reply) => {
        const proof = await authenticate?.(request.headers, bodyOf(request));
        if (!webhook || !proof) {
          // Of many that are held back, the bodies would fill the memory.
          Object.assign(request, { body: undefined });
          if (hasCredentials(request.headers)) await options.guard.slow(request);
          throw unauthorized('the webhook is not authenticated: see WEBHOOK_SECRET');
        }
        const received = { body: bodyOf(request), contentType: request.headers['content-type'], proof };
        return reply.code(202).send({ results: await acceptNotification(received, webhook) });
      },
    );
  });
}

/** How a sender showed that it knows a secret: by the secret itself, or by what it signs. */
type Proof = 'secret' | 'signed';

/** A notification whose sender is known. */
interface Received {
  readonly body: Uint8Array;
  readonly contentType: string | undefined;
  readonly proof: Proof;
}

/** What became of the session of a notification; empty where there is nothing to do for it. */
type Results = { readonly sessionId: string; readonly outcome: EnqueueOutcome }[];

/** A function that queues the sessions of notifications. */
function createIntake({
  operations,
  defaultBotId,
  metrics,
  log,
}: WebhookOptions): (received: Received, webhook: WebhookConfig) => Promise<Results> {
  const signedBodies = new SignedBodies();

  /** The outcome of a session whose signed body was accepted before; `undefined` where it must be accepted again. */
  async function lookUp(session: EnqueueRequest): Promise<EnqueueOutcome | undefined> {
    const view = await operations.view(session);
    if (view) return view.state === 'archived' ? 'already-archived' : 'already-queued';
    // A maybe without a voicemail is unknown by now; anything else was lost with the queue.
    return session.maybe ? 'already-queued' : undefined;
  }

  return async ({ body, contentType, proof }, config) => {
    const { sessionIdPaths: paths, metaPaths = [], callMetadata = 'on', app } = config;
    const received = parse(decodeBody(body), contentType, log);
    const notification = readNotification(received, paths);
    if (notification.kind === 'other-event') {
      metrics?.webhook?.onNotification('other-event');
      return [];
    }
    if (notification.kind === 'no-session') {
      metrics?.webhook?.onNotification('no-session');
      log.warn(
        { members: memberNames(received) },
        'an authentic notification names no session: WEBHOOK_SESSION_ID_PATH says where to look',
      );
      throw noSession(notification.wrong, paths);
    }
    const { sessionId, botId = defaultBot(defaultBotId), isMaybe } = notification;
    const meta = readMeta(received, metaPaths);
    const keepCall = createCallFilter(callMetadata, app?.clientSecret ?? '');
    // Without the key of their hashes, numbers can be found out by trying all there are.
    const from = callMetadata === 'hashed' && !app ? undefined : readCaller(received);
    const call = keepCall(boundedCall({ ...(from !== undefined && { from }), ...(meta && { meta }) }));
    const session = { sessionId, botId, ...(isMaybe && { maybe: true }), ...(call && { call }) };
    if (proof === 'signed' && signedBodies.has(body)) {
      const outcome = await lookUp(session);
      if (outcome !== undefined) {
        metrics?.webhook?.onNotification('replayed');
        return [{ sessionId, outcome }];
      }
    }
    const results = await operations.enqueue([{ ...session, by: 'webhook' }]);
    if (proof === 'signed') signedBodies.add(body);
    metrics?.webhook?.onNotification(isMaybe ? 'maybe' : 'voicemail');
    return results.map(({ outcome }) => ({ sessionId, outcome }));
  };
}

function bodyOf({ body }: { readonly body: unknown }): Uint8Array {
  return body instanceof Uint8Array ? body : new Uint8Array();
}

/** Whether a sender tries to show that it knows a secret. */
function hasCredentials(headers: IncomingHttpHeaders): boolean {
  return ['auth', 'authorization', 'x-signature', 'token'].some((name) => headers[name] !== undefined);
}

/** A function that returns how the sender of a notification proved that it knows a secret. */
function createAuthentication({
  secrets,
  app,
}: WebhookConfig): (headers: IncomingHttpHeaders, body: Uint8Array) => Promise<Proof | undefined> {
  const isSecret = createSecretCheck(secrets);
  const isSignature = createSignatureCheck(secrets);
  const isKoreToken = app && createKoreTokenCheck(app);
  return async (headers, body) => {
    const { auth, token } = headers;
    const signature = headers['x-signature'];
    const bearer = bearerToken(headers.authorization);
    if (typeof auth === 'string' && isSecret(auth)) return 'secret';
    if (bearer !== undefined && isSecret(bearer)) return 'secret';
    if (typeof signature === 'string' && isSignature(signature, body)) return 'signed';
    const isSigned = isKoreToken !== undefined && typeof token === 'string' && (await isKoreToken(token));
    return isSigned ? 'signed' : undefined;
  };
}

function parse(text: string, contentType: string | undefined, log: Logger): unknown {
  if (/^application\/x-www-form-urlencoded\b/i.test(contentType ?? '')) {
    return Object.fromEntries(new URLSearchParams(text));
  }
  const body = parseJson(text);
  if (body !== undefined) return body;
  log.warn({ characters: text.length }, 'an authentic notification is not JSON');
  throw new ApiError(400, 'INVALID_REQUEST', 'the body is not JSON');
}

function noSession(wrong: readonly string[], paths: readonly string[]): ApiError {
  const places = (wrong.length > 0 ? wrong : paths).join(', ');
  return new ApiError(
    400,
    'INVALID_REQUEST',
    wrong.length > 0
      ? `what the body has at ${places} is no session id, which is a string of 1 to 128 of A-Z a-z 0-9 _ -`
      : `the body has no session id at ${places}; WEBHOOK_SESSION_ID_PATH says where to look`,
  );
}
