import type { ProxySettings } from '../util/http-proxy.ts';
import { registerSecret } from '../util/redact.ts';
import { InvalidValue, type Settings } from './settings.ts';

/**
 * The proxies, by the variables that curl reads, in lower case or upper case, of which lower case wins. curl takes
 * `HTTP_PROXY` in lower case alone, as a CGI program gets a variable of that name from whoever asks; this is none.
 * https://everything.curl.dev/usingcurl/proxies/env.html
 */
export function loadProxy(settings: Settings): ProxySettings | undefined {
  const read = <Value>(
    variable: 'HTTP_PROXY' | 'HTTPS_PROXY' | 'NO_PROXY',
    parse: (text: string) => Value,
  ) => {
    const lower = settings.optionalInLowerCase(variable, parse);
    const upper = settings.optional(variable, parse);
    return lower ?? upper;
  };
  const http = read('HTTP_PROXY', parseProxy);
  const https = read('HTTPS_PROXY', parseProxy);
  const noProxy = read('NO_PROXY', parseNoProxy);
  return http === undefined && https === undefined ? undefined : { http, https, noProxy };
}

/** The URL of a proxy, http without a scheme. Nothing of it is quoted, as it may hold a password, which is registered. */
function parseProxy(text: string): string {
  const written = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(written) ? new URL(written) : undefined;
  if (url === undefined || url.hostname === '') throw new InvalidValue('is no URL of a proxy');
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new InvalidValue(
      'begins neither with http:// nor with https://; other kinds of proxies are not supported',
    );
  }
  if (!/^\/*$/.test(url.pathname) || url.search !== '' || url.hash !== '') {
    throw new InvalidValue(
      'holds more than a host and a port; percent-encode special characters in a password',
    );
  }
  for (const part of [url.username, url.password]) {
    try {
      decodeURIComponent(part);
    } catch {
      throw new InvalidValue('has a "%" that is not followed by two hex digits; write it as %25');
    }
  }
  if (url.password !== '') registerSecret(decodeURIComponent(url.password));
  return url.href.replace(/\/$/, '');
}

function parseNoProxy(text: string): string {
  if (/^[\x21-\x7e\s,]+$/.test(text)) return text;
  throw new InvalidValue('is no list of hosts, separated by commas');
}
