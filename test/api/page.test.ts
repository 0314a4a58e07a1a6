import { gunzipSync } from 'node:zlib';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiSetup, apiTokens, ask, openApiSetup } from '../support/api-server.ts';

const TOKEN = 'a-token-for-people-0123456789';
const HTML = { accept: 'text/html' };
const VIEWS = [
  '/',
  '/sessions',
  '/sessions/67ab573f3685d1ba99541234',
  '/failures',
  '/completeness',
  '/backfills',
];

let setup: ApiSetup;
/** With a token, and without any. */
let closed: string;
let open: string;
beforeAll(async () => {
  setup = await openApiSetup();
  [closed, open] = await Promise.all([setup.serve({ tokens: apiTokens(TOKEN) }), setup.serve()]);
});
afterAll(() => setup.close());

/** What the page loads. */
async function linked(): Promise<string[]> {
  const { text } = await ask(open, '/');
  return [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, address]) => String(address));
}

describe("the operator's page as it is served", () => {
  it.each(VIEWS)(
    '%s sends a browser that is not logged in to the login page, and tells programs what to send',
    async (path) => {
      const next = path === '/' ? '' : `?next=${encodeURIComponent(path)}`;
      expect(await ask(closed, path, { headers: HTML })).toMatchObject({
        status: 303,
        headers: { location: `/login${next}` },
      });
      expect(await ask(closed, path)).toMatchObject({ status: 401, body: { code: 'UNAUTHORIZED' } });
      expect((await ask(closed, path, { headers: { authorization: `Bearer ${TOKEN}` } })).status).toBe(200);
      expect(await ask(open, path, { headers: HTML })).toMatchObject({
        status: 200,
        headers: { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' },
      });
    },
  );

  it("the operator's page is closed to pages of other names where no credentials are needed", async () => {
    expect((await ask(open, '/', { headers: { host: 'evil.example' } })).status).toBe(403);
  });

  it("the operator's page holds no inline script or style, and allows none", async () => {
    for (const [url, path] of [
      [open, '/'],
      [closed, '/login'],
    ] as const) {
      const { text, headers } = await ask(url, path);
      expect(text).not.toMatch(/<script(?![^>]* src=)|<style|\son\w+=|style=/);
      expect(headers['content-security-policy']).toMatch(
        /^default-src 'none'; script-src 'self'; style-src 'self';/,
      );
      expect(headers['content-security-policy']).not.toContain('unsafe');
    }
  });

  it("the operator's page loads files of this server alone, all of which exist, and none by a name that only Node knows", async () => {
    const addresses = await linked();
    expect(addresses.length).toBeGreaterThan(20);
    for (const address of addresses) {
      const { status, text, headers } = await ask(open, address);
      expect([address, status]).toEqual([address, 200]);
      expect(headers['cache-control']).toBe('public, max-age=31536000, immutable');
      if (!address.endsWith('.js')) continue;
      for (const [, name = ''] of text.matchAll(/\bfrom\s*['"]([^'"]+)['"]/g)) {
        // A part of a comment names a type in another folder.
        if (name.endsWith('.ts')) continue;
        const path = new URL(name, `${open}${address}`).pathname;
        expect([name, addresses.includes(path)]).toEqual([name, true]);
      }
    }
  });

  it("files of the operator's page are compressed for clients that accept it, and not sent again when unchanged", async () => {
    const [address = ''] = (await linked()).filter((one) => one.endsWith('/main.js'));
    const plain = await ask(open, address);
    const response = await request(`${open}${address}`, { headers: { 'accept-encoding': 'br, gzip' } });
    expect(response.headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'accept-encoding' });
    expect(gunzipSync(await response.body.bytes()).toString()).toBe(plain.text);
    for (const refused of ['gzip;q=0', 'identity']) {
      const { headers } = await ask(open, address, { headers: { 'accept-encoding': refused } });
      expect([refused, headers['content-encoding']]).toEqual([refused, undefined]);
    }
    const etag = String(plain.headers.etag);
    expect((await ask(open, address, { headers: { 'if-none-match': etag } })).status).toBe(304);
  });

  it.each(['/page/0/main.js', '/page/../package.json', '/page/0/%2e%2e%2fpackage.json'])(
    "the operator's page serves no other file: %s",
    async (path) => {
      expect((await ask(open, path)).status).toBe(404);
    },
  );
});
