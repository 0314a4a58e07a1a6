/** The fast path's own signatures, compared with those that the SDK's signer makes of the same requests. */

import { S3Client } from '@aws-sdk/client-s3';
import { HttpRequest } from '@smithy/core/protocols';
import { SignatureV4 } from '@smithy/signature-v4';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRequestSigner } from '../../src/storage/s3/request-signature.ts';

const { sha256 } = new S3Client({ region: 'eu-central-1' }).config;

const credentials = fc.record({
  accessKeyId: fc.stringMatching(/^[A-Z0-9]{1,20}$/),
  secretAccessKey: fc.stringMatching(/^[!-~]{1,40}$/),
});
const temporary = fc
  .tuple(credentials, fc.stringMatching(/^[A-Za-z0-9/+=]{1,60}$/))
  .map(([keys, sessionToken]) => ({ ...keys, sessionToken }));
const request = fc.record({
  method: fc.constantFrom('GET', 'PUT'),
  path: fc.array(fc.string({ minLength: 1, maxLength: 8, unit: 'grapheme' }), { minLength: 1, maxLength: 4 }),
  prefix: fc.option(fc.string({ maxLength: 8 }), { nil: undefined }),
  headers: fc.dictionary(
    fc.stringMatching(/^x-amz-meta-[a-z]{1,6}$/),
    fc.stringMatching(/^[!-~]( {0,2}[!-~]){0,8}$/),
    { maxKeys: 3 },
  ),
  contentType: fc.option(fc.constantFrom('audio/wav', 'application/json'), { nil: undefined }),
  hash: fc.stringMatching(/^[0-9a-f]{64}$/),
});

test('every request is signed as the SDK does', async () => {
  const now = fc.date({ min: new Date('2020-01-01'), max: new Date('2090-01-01'), noInvalidDate: true });
  const region = fc.constantFrom('eu-central-1', 'us-east-1');
  await fc.assert(
    fc.asyncProperty(
      request,
      fc.oneof(credentials, temporary),
      region,
      now,
      async (asked, keys, inRegion, at) => {
        const path = `/${asked.path.map(encoded).join('/')}`;
        const query = asked.prefix === undefined ? undefined : { 'list-type': '2', prefix: asked.prefix };
        const headers = {
          host: 'bucket.s3.example:9000',
          'user-agent': 'voicemail-archiver',
          'x-amz-content-sha256': asked.hash,
          ...asked.headers,
          ...(asked.contentType !== undefined && { 'content-type': asked.contentType }),
        };
        const sdk = new SignatureV4({
          service: 's3',
          region: inRegion,
          credentials: keys,
          sha256,
          uriEscapePath: false,
          applyChecksum: false,
        });
        const unsigned = new HttpRequest({
          method: asked.method,
          protocol: 'http:',
          hostname: 'bucket.s3.example',
          path,
          headers: { ...headers },
          ...(query && { query }),
        });
        const { headers: expected } = await sdk.sign(unsigned, { signingDate: at });
        const sentPath = query ? `${path}?list-type=2&prefix=${encoded(query.prefix)}` : path;
        const signed = createRequestSigner(inRegion)(
          { method: asked.method, path: sentPath, headers },
          keys,
          at,
        );
        expect(signed).toEqual(expected);
      },
    ),
    { numRuns: 200 },
  );
});

test('another day and other credentials get a new signing key', () => {
  const sign = createRequestSigner('eu-central-1');
  const asked = { method: 'GET', path: '/a', headers: { host: 'h', 'x-amz-content-sha256': 'x' } };
  const keys = { accessKeyId: 'id', secretAccessKey: 'secret' };
  const day = new Date('2026-01-02T03:04:05Z');
  const first = sign(asked, keys, day);
  expect(sign(asked, { ...keys, secretAccessKey: 'other' }, day)).not.toEqual(first);
  expect(sign(asked, keys, new Date('2026-01-03T03:04:05Z')).authorization).toContain('/20260103/');
  expect(sign(asked, keys, day)).toEqual(first);
});

function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
