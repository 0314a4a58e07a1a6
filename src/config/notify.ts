import { isNotificationEvent, NOTIFICATION_EVENTS, type NotificationEvent } from '../domain/notifications.ts';
import type { ProxySettings } from '../util/http-proxy.ts';
import { registerSecret } from '../util/redact.ts';
import type { NotifyConfig } from './config.ts';
import { parseBoolean, parseSecret } from './parsers.ts';
import { InvalidValue, quote, type Settings } from './settings.ts';

/** Where notifications go; `undefined` where nobody is to be told. */
export function loadNotify(settings: Settings, proxy: ProxySettings | undefined): NotifyConfig | undefined {
  const allowPrivate = settings.withDefault('NOTIFY_ALLOW_PRIVATE', parseBoolean);
  const url = settings.optional('NOTIFY_URL', parseNotifyUrl);
  const secret = settings.required('NOTIFY_SECRET', parseSecret, url !== undefined);
  const events = settings.withDefault('NOTIFY_EVENTS', parseEvents);
  // Both hold what lets somebody send in our name: receivers put keys into paths as well.
  for (const one of [url, secret]) if (one !== undefined) registerSecret(one);
  if (url?.startsWith('http:') && !allowPrivate && !settings.isFaulty('NOTIFY_ALLOW_PRIVATE')) {
    settings.addFault(
      'NOTIFY_URL',
      'is not https, so anybody on the way could read and change what is told',
      {
        hint: 'give an https URL, or set NOTIFY_ALLOW_PRIVATE=true for a receiver on a network of yours',
      },
    );
  }
  return url !== undefined && secret !== undefined ? { url, secret, events, allowPrivate, proxy } : undefined;
}

/** Nothing of it is quoted, as it may hold a secret. */
function parseNotifyUrl(text: string): string {
  const written = text.trim();
  const url = URL.canParse(written) ? new URL(written) : undefined;
  if (url === undefined || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new InvalidValue('is no https URL');
  }
  if (url.username !== '' || url.password !== '') {
    throw new InvalidValue('holds a user name or password, which would not be sent');
  }
  url.hash = '';
  return url.href;
}

function parseEvents(text: string): NotificationEvent[] {
  const names = text.split(',').map((name) => name.trim());
  return [...new Set(names)].map((name) => {
    if (isNotificationEvent(name)) return name;
    throw new InvalidValue(`${quote(name)} is none of ${NOTIFICATION_EVENTS.join(', ')}`);
  });
}
