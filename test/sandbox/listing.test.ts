import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { token } from '../support/sandbox-caller.ts';

let sandbox: Sandbox;

beforeAll(async () => {
  sandbox = await startSandbox();
});

afterAll(() => sandbox.close());

async function post(path: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(sandbox.url + path, {
    method: 'POST',
    headers: { auth: await token(sandbox), 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

const WEEK = { startDate: '2026-05-01 00:00:00', endDate: '2026-05-08 00:00:00', timeZoneOffset: 0 };

function calls({
  body = {},
  query = 'offset=0&limit=100',
  account = sandbox.accountId,
  botId = sandbox.botId,
}) {
  const path = `/agentassist/api/public/analytics/account/${account}/v2/interactionDetails?${query}`;
  return post(path, { ...WEEK, ...body }, { accountId: account, iId: botId });
}

function sessions(body: Record<string, unknown> = {}) {
  const window = { dateFrom: '2026-05-01T00:00:00.000Z', dateTo: '2026-05-07T23:00:00.000Z' };
  return post(`/api/public/bot/${sandbox.botId}/getSessions`, { skip: 0, limit: 100, ...window, ...body });
}

describe('the limits of the listings', () => {
  it.each([
    ['a window of more than 7 days', { body: { endDate: '2026-05-08 00:00:01' } }],
    ['times in another format', { body: { startDate: '2026-05-01T00:00:00Z' } }],
    ['a window that ends before it begins', { body: { endDate: '2026-04-01 00:00:00' } }],
    ['more than 100 rows', { query: 'offset=0&limit=101' }],
    ['a page beyond the 10th', { query: 'offset=11&limit=100' }],
  ])('the sandbox refuses call details for %s', async (_, asked) => {
    expect((await calls(asked)).status).toBe(412);
  });

  it('the sandbox refuses call details of unknown accounts and bots', async () => {
    expect((await calls({ account: 'o-1' })).status).toBe(404);
    expect((await calls({ botId: 'st-1' })).status).toBe(401);
  });

  it.each([
    ['a window of 7 days', { dateTo: '2026-05-08T00:00:00.000Z' }],
    ['more than 100 rows', { limit: 101 }],
    ['no times', { dateFrom: undefined }],
  ])('the sandbox refuses the sessions history for %s', async (_, asked) => {
    expect((await sessions(asked)).status).toBe(412);
  });
});

describe('the listed sessions', () => {
  it('the sandbox lists the sessions of that moment, the newest first, some twice, with the count of all', async () => {
    const at = (day: number) => makeSessionId(new Date(Date.UTC(2026, 4, day)));
    const old = sandbox.addSession({ sessionId: at(2), recordings: [], listing: { rows: 2 } });
    const recent = sandbox.addSession({ sessionId: at(3), listing: { isVoicemail: null } });
    sandbox.addSession({ sessionId: at(20) });

    expect((await calls({ query: 'offset=0&limit=2' })).body).toMatchObject({
      numResults: 3,
      data: [
        { sessionId: recent, channel: 'voice' },
        { sessionId: old, isVoicemail: 'NO' },
      ],
    });
    expect((await sessions({ skip: 2 })).body).toMatchObject({
      total: 3,
      moreAvailable: false,
      sessions: [{ sessionId: old, channel: 'korevg' }],
    });

    sandbox.configure({
      beforeListing() {
        sandbox.configure({ beforeListing: undefined });
        sandbox.addSession({ sessionId: at(4) });
      },
    });
    expect((await sessions()).body).toMatchObject({ total: 4 });
  });
});

describe('channels and flags', () => {
  it.each(['IVR', 'audiocodes'])('the sandbox can list the channel %s', async (channel) => {
    const sessionId = sandbox.addSession({
      sessionId: makeSessionId(new Date(Date.UTC(2026, 4, 5))),
      listing: { channel },
    });
    expect((await calls({})).body.data).toContainEqual(expect.objectContaining({ sessionId, channel }));
    expect((await sessions()).body.sessions).toContainEqual(expect.objectContaining({ sessionId, channel }));
  });

  it.each(['Y', 1, 'true', true])('the sandbox can list isVoicemail %j', async (isVoicemail) => {
    const sessionId = sandbox.addSession({
      sessionId: makeSessionId(new Date(Date.UTC(2026, 4, 5))),
      listing: { isVoicemail },
    });
    expect((await calls({})).body.data).toContainEqual(expect.objectContaining({ sessionId, isVoicemail }));
  });
});
