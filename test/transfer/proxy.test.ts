import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { wavOf } from '../support/audio.ts';
import { startProxy, type TestProxy } from '../support/http-proxy.ts';
import { createHarness, type TransferHarness, type TransferSetup } from '../support/transfer-harness.ts';

const read = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
/** For all names below proxied.test, which nobody but the proxy can resolve. */
const tls = { cert: read('tls-proxied.crt'), key: read('tls-proxied.key') };
const HOST = 'media.proxied.test';
const trusted = getCACertificates('default');

describe('media behind a proxy', () => {
  const recording = wavOf(300_000);
  let archive: TestArchive;
  let media: Server;
  let location: string | undefined;
  let proxy: TestProxy;
  let harness: TransferHarness | undefined;
  let resolved: string[];
  let count = 0;

  beforeAll(async () => {
    setDefaultCACertificates([...trusted, tls.cert]);
    archive = await openTestArchive('file');
    media = createServer(tls, (request, response) => {
      if (request.url === '/moved') response.writeHead(302, { location }).end();
      else response.writeHead(200, { 'content-length': recording.length }).end(recording);
    });
    media.listen(0, '127.0.0.1');
    await once(media, 'listening');
  });

  afterAll(async () => {
    setDefaultCACertificates(trusted);
    media.close();
    media.closeAllConnections();
    await archive.close();
  });

  beforeEach(async () => {
    resolved = [];
    count += 1;
    proxy = await startProxy({
      routes: { [`${HOST}:443`]: (media.address() as AddressInfo).port },
      credentials: 'user:password',
    });
  });

  afterEach(async () => {
    await harness?.close();
    await proxy.close();
  });

  function run(url: string, setup: TransferSetup = {}) {
    harness = createHarness(archive.store, {
      allowPrivate: false,
      hosts: ['proxied.test'],
      proxy: { https: proxy.url },
      resolve: async (name) => {
        resolved.push(name);
        return [{ address: '127.0.0.1', family: 4 }];
      },
      ...setup,
    });
    return harness.run({ key: `recording-${count}`, urls: [url] });
  }

  it('media behind a proxy is fetched through it, and no name is resolved here', async () => {
    expect(await run(`https://${HOST}/voicemail.wav?s=1`)).toMatchObject({
      bytes: recording.length,
      integrity: { state: 'verified' },
      source: { host: HOST },
    });
    expect([proxy.requests, resolved]).toEqual([[`CONNECT ${HOST}:443`], []]);
  });

  it.each([
    ['another host', 'https://media.elsewhere.test/x'],
    ['a private address', 'https://10.0.0.1/x'],
    ['the metadata of a cloud', 'https://169.254.169.254/latest/meta-data/'],
    ['plain http', `http://${HOST}/x`],
  ])('the proxy is never asked for %s, be it by a redirect', async (_name, url) => {
    await expect(run(url)).rejects.toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
    expect(proxy.requests).toEqual([]);
    await harness?.close();
    location = url;
    await expect(run(`https://${HOST}/moved`)).rejects.toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
    expect(proxy.requests).toEqual([`CONNECT ${HOST}:443`]);
  });

  it('media behind a proxy is resolved and checked here where NO_PROXY names its host', async () => {
    const direct = { proxy: { https: proxy.url, noProxy: '.proxied.test' } };
    await expect(run(`https://${HOST}/x`, direct)).rejects.toMatchObject({
      code: 'RECORDING_HOST_NOT_ALLOWED',
      retryable: true,
    });
    expect([proxy.requests, resolved]).toEqual([[], [HOST]]);
  });

  it('a download through a proxy fails with what the proxy said, without its password', async () => {
    const wrong = { proxy: { https: proxy.url.replace('password', 'secret') } };
    const error: unknown = await run(`https://${HOST}/x`, wrong).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'DOWNLOAD_FAILED',
      retryable: true,
      host: HOST,
      message: expect.stringContaining('the proxy answered 407'),
    });
    expect(String(error)).not.toContain('secret');
  });
});
