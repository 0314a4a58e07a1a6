import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Notification } from '../../src/domain/notifications.ts';
import { createSender, type SenderOptions, type SendOutcome } from '../../src/notifications/send.ts';
import { isSigned, notifyConfig, type Receiver, startReceiver } from '../support/notification-receiver.ts';

const NOTIFICATION: Notification = {
  id: 'archived-0123',
  event: 'archived',
  at: '2026-01-05T09:30:00.000Z',
  session: { botId: 'st-1', sessionId: 's-1', state: 'archived', manifestKey: 'ä/manifest.json' },
};
const never = new AbortController().signal;

let receiver: Receiver;
const closers: (() => Promise<void>)[] = [];

beforeEach(async () => {
  receiver = await startReceiver();
  closers.push(() => receiver.close());
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function sender(options: Partial<SenderOptions> = {}) {
  const made = createSender({ notify: notifyConfig(receiver), timeoutMs: 20_000, ...options });
  closers.push(() => made.close());
  return made;
}

const send = (options: Partial<SenderOptions> = {}): Promise<SendOutcome> =>
  sender(options).send(NOTIFICATION, never);

describe('a notification', () => {
  it('a notification is JSON, named in a header and signed over its bytes', async () => {
    expect(await send()).toEqual({ kind: 'delivered' });
    const [request] = receiver.received;
    expect(request?.body).toEqual(NOTIFICATION);
    expect(request?.path).toBe('/hooks/voicemail?key=hook-key');
    expect(request?.headers).toMatchObject({
      'content-type': 'application/json',
      'x-notification-id': NOTIFICATION.id,
    });
    expect(request && isSigned(request)).toBe(true);
    expect(request && isSigned(request, 'another secret')).toBe(false);
    expect(request && isSigned({ ...request, raw: Buffer.concat([request.raw, Buffer.from(' ')]) })).toBe(
      false,
    );
  });

  it('a notification is delivered by any status from 200 to 299, and by no other', async () => {
    const one = sender();
    const outcomes: Record<number, SendOutcome['kind']> = {};
    for (const status of [200, 202, 299, 302, 400, 410, 429, 500, 503]) {
      receiver.behave(() => status);
      outcomes[status] = (await one.send(NOTIFICATION, never)).kind;
    }
    const failed = {
      302: 'failed',
      400: 'failed',
      410: 'failed',
      429: 'failed',
      500: 'failed',
      503: 'failed',
    };
    expect(outcomes).toEqual({ 200: 'delivered', 202: 'delivered', 299: 'delivered', ...failed });
  });

  it('a notification follows no redirect', async () => {
    const other = await startReceiver();
    closers.push(() => other.close());
    receiver.behave(() => (response) => response.writeHead(307, { location: other.url }).end());
    expect(await send()).toMatchObject({ kind: 'failed', reason: expect.stringContaining('307') });
    expect(other.received).toEqual([]);
  });

  it('a notification is sent again at the time that the receiver asks for', async () => {
    receiver.behave(() => (response) => response.writeHead(429, { 'retry-after': '120' }).end());
    expect(await send()).toMatchObject({ kind: 'failed', retryAfterMs: 120_000 });
  });

  it('a notification is delivered although the answer never ends', async () => {
    receiver.behave(() => (response) => {
      response.writeHead(200);
      const write = () => {
        while (!response.destroyed && response.write(Buffer.alloc(64 * 1024)));
      };
      response.on('drain', write);
      write();
    });
    expect(await send()).toEqual({ kind: 'delivered' });
  });

  it('a notification fails in time when the receiver hangs', async () => {
    receiver.behave(() => 'hang');
    expect(await send({ timeoutMs: 100 })).toMatchObject({
      kind: 'failed',
      reason: expect.stringContaining('no answer within 0.1 s'),
    });
  });

  it('a notification fails where nobody listens or the connection breaks, and the error shows only the host', async () => {
    receiver.behave(() => 'drop');
    const broken = await send();
    await receiver.goAway();
    const away = await send();
    for (const outcome of [broken, away]) {
      expect(outcome).toMatchObject({
        kind: 'failed',
        reason: expect.stringContaining('could not be reached'),
      });
      expect(JSON.stringify(outcome)).not.toMatch(/hook/);
    }
  });

  it('a notification that is stopped ends with the reason of the stop', async () => {
    receiver.behave(() => 'hang');
    const stop = new AbortController();
    const sending = sender().send(NOTIFICATION, stop.signal);
    await receiver.until(({ received }) => received.length === 1);
    stop.abort(new Error('stopping'));
    await expect(sending).rejects.toThrow('stopping');
  });
});

describe('without NOTIFY_ALLOW_PRIVATE', () => {
  it.each([
    ['plain http', 'http://crm.example.com/'],
    ['loopback', 'https://127.0.0.1/'],
    ['loopback in disguise', 'https://2130706433/'],
    ['IPv4 in IPv6', 'https://[::ffff:127.0.0.1]/'],
    ['a private network', 'https://10.1.2.3/'],
    ['cloud metadata', 'https://169.254.169.254/'],
  ])('%s is refused without NOTIFY_ALLOW_PRIVATE before anything is sent', (_title, url) => {
    const notify = notifyConfig({ url }, { allowPrivate: false });
    expect(() => createSender({ notify, timeoutMs: 1_000 })).toThrow(/NOTIFY_URL.*NOTIFY_ALLOW_PRIVATE=true/);
  });

  it('a name that leads to a private address gets no connection without NOTIFY_ALLOW_PRIVATE', async () => {
    const { port } = new URL(receiver.url);
    const notify = notifyConfig({ url: `https://crm.example.com:${port}/` }, { allowPrivate: false });
    const outcome = await send({ notify, resolve: async () => [{ address: '127.0.0.1', family: 4 }] });
    expect(outcome).toMatchObject({
      kind: 'failed',
      reason: expect.stringContaining('resolves to a private address'),
    });
    expect(JSON.stringify(outcome)).not.toMatch(/KORE|recording/);
    expect(receiver.received).toEqual([]);
  });
});
