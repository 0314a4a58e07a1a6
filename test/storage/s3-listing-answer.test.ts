import { expect, test } from 'vitest';
import { readWholeListing } from '../../src/storage/s3/fast-path.ts';

const listing = (contents: string, more = '<IsTruncated>false</IsTruncated>') =>
  `<?xml version="1.0"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>${more}${contents}</ListBucketResult>`;
const object = (key: string) =>
  `<Contents>\n  <Key>${key}</Key><ETag>&quot;1&quot;</ETag><Owner><DisplayName>Key</DisplayName></Owner></Contents>`;

test('the keys of a listing are read, also those that XML escapes in another way', () => {
  const keys = ['a/b c.wav', 'R&amp;D &lt;1&gt;.wav', '&#x1F600;&#233;&apos;&quot;', '&amp;lt;'];
  expect(readWholeListing(listing(keys.map(object).join('')))).toEqual({
    keys: ['a/b c.wav', 'R&D <1>.wav', '😀é\'"', '&lt;'],
  });
  expect(readWholeListing(listing(''))).toEqual({ keys: [] });
});

test.for([
  ['goes on on another page', listing(object('a'), '<IsTruncated>true</IsTruncated>')],
  ['does not say whether it goes on', listing(object('a'), '')],
  [
    'encodes its keys',
    listing(object('a'), '<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>'),
  ],
  ['has an object without a key', listing('<Contents><Size>1</Size></Contents>')],
  ['is cut', listing(object('a')).slice(0, -5)],
  ['is a page of somebody else', '<html><IsTruncated>false</IsTruncated></html>'],
])('a listing is left to the SDK when it %s', ([, xml = '']) => {
  expect(readWholeListing(xml)).toBeUndefined();
});
