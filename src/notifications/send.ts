import { createHmac } from 'node:crypto';
import type { NotifyConfig } from '../config/config.ts';
import { ConfigError } from '../config/settings.ts';
import { isVoicemailError, systemCode } from '../domain/errors.ts';
import type { Notification } from '../domain/notifications.ts';
import { createGuardedLookup, type Destination, parseDestination, type Resolve } from '../transfer/ssrf.ts';
import { createDispatcher, proxyFaultText } from '../util/http-proxy.ts';
import { parseRetryAfter } from '../util/numbers.ts';
import { VERSION } from '../util/process.ts';

/** What came of sending a notification once. */
export type SendOutcome =
  | { readonly kind: 'delivered' }
  | {
      readonly kind: 'failed';
      /** In words, without anything of the URL but its host. */
      readonly reason: string;
      /** The pause that the receiver asked for. */
      readonly retryAfterMs?: number;
    };

/** Sends notifications to their receiver. */
export interface Sender {
  /** Sends one, once. Rejects only with the signal's reason. */
  send(notification: Notification, signal: AbortSignal): Promise<SendOutcome>;
  /** Ends all connections. */
  close(): Promise<void>;
}

/** Settings of a {@link Sender}. */
export interface SenderOptions {
  readonly notify: NotifyConfig;
  /** How long the receiver may take for its whole answer (milliseconds). */
  readonly timeoutMs: number;
  /** How names are resolved; by default the system's resolver. */
  readonly resolve?: Resolve;
}

/** An answer is read to its end so that its connection can be used again; of longer ones it is closed. */
const MAX_ANSWER_BYTES = 64 * 1024;
const CONNECTIONS = 8;

/** Names the notification, as `id` in its body does. */
const ID_HEADER = 'x-notification-id';
/** `sha256=<hex>`: the HMAC-SHA256 of the body's bytes. */
const SIGNATURE_HEADER = 'x-signature';

/**
 * Creates a sender with its own connections, through a proxy where the configuration names one. The rules are those of
 * recordings: https, no redirects, and no address outside the public internet, unless `NOTIFY_ALLOW_PRIVATE` says so.
 *
 * @throws ConfigError when the URL can't be allowed.
 * @example
 * const sender = createSender({ notify: config.notify, timeoutMs: 10_000 });
 * const outcome = await sender.send(notification, signal);
 */
export function createSender({ notify, timeoutMs, resolve }: SenderOptions): Sender {
  const { allowPrivate, secret, proxy } = notify;
  const { origin, target, host } = destinationOf(notify);
  const dispatcher = createDispatcher(
    {
      allowH2: false,
      connections: CONNECTIONS,
      connect: {
        lookup: createGuardedLookup({ allowPrivate, privateHosts: [] }, resolve),
        timeout: timeoutMs,
      },
      // The signal below counts the time of the whole exchange.
      headersTimeout: 0,
      bodyTimeout: 0,
    },
    proxy,
  );
  return {
    async send(notification, signal) {
      const body = bodyOf(notification);
      const timeout = AbortSignal.timeout(timeoutMs);
      try {
        const response = await dispatcher.request({
          method: 'POST',
          origin,
          path: target,
          signal: AbortSignal.any([signal, timeout]),
          headers: {
            'content-type': 'application/json',
            'user-agent': `voicemail-archiver/${VERSION}`,
            [ID_HEADER]: notification.id,
            [SIGNATURE_HEADER]: `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
          },
          body,
        });
        const { statusCode, headers } = response;
        try {
          await response.body.dump({ limit: MAX_ANSWER_BYTES, signal: AbortSignal.any([signal, timeout]) });
        } catch {
          // What counts is the status: only the connection is lost.
          response.body.destroy();
        }
        if (statusCode >= 200 && statusCode < 300) return { kind: 'delivered' };
        const retryAfter = headers['retry-after'];
        const retryAfterMs = parseRetryAfter([retryAfter].flat()[0], Date.now());
        return {
          kind: 'failed',
          reason: `${host} answered ${statusCode}${isRedirect(statusCode) ? ', and redirects are not followed' : ''}`,
          ...(retryAfterMs !== undefined && { retryAfterMs }),
        };
      } catch (error) {
        signal.throwIfAborted();
        const reason = timeout.aborted ? `gave no answer within ${timeoutMs / 1000} s` : reasonOf(error);
        return { kind: 'failed', reason: `${host} ${reason}` };
      }
    },
    close: () => dispatcher.destroy(),
  };
}

/** The body of a notification; PostgreSQL keeps the members of objects in an order of its own. */
function bodyOf(notification: Notification): Buffer {
  const { id, event, at } = notification;
  const content =
    notification.event === 'completeness'
      ? { completeness: notification.completeness }
      : { session: notification.session };
  return Buffer.from(JSON.stringify({ id, event, at, ...content }));
}

/** @throws ConfigError */
function destinationOf({ url, allowPrivate }: NotifyConfig): Destination {
  // The list of hosts is the one host that is configured.
  const { hostname } = new URL(url);
  const hosts = [hostname.replace(/\.$/, '')];
  try {
    return parseDestination(url, { hosts, allowPrivate, privateHosts: [] });
  } catch (error) {
    if (!isVoicemailError(error, 'RECORDING_HOST_NOT_ALLOWED')) throw error;
    throw new ConfigError([
      {
        variable: 'NOTIFY_URL',
        message: `${hostname} is not on the public internet, or not reached by https`,
        hint: ALLOW_HINT,
      },
    ]);
  }
}

const ALLOW_HINT = 'set NOTIFY_ALLOW_PRIVATE=true if the receiver is on a network of yours';

function isRedirect(status: number): boolean {
  return status >= 300 && status < 400;
}

/** Why no answer came: a code, without addresses or URLs. */
function reasonOf(error: unknown): string {
  // The rules are those of recordings, and so are their words.
  if (isVoicemailError(error, 'RECORDING_HOST_NOT_ALLOWED')) {
    return `resolves to a private address; ${ALLOW_HINT}`;
  }
  const code =
    proxyFaultText(error) ?? systemCode(error) ?? (error instanceof Error ? error.name : 'no error');
  return `could not be reached (${code})`;
}
