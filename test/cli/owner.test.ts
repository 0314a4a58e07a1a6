import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readOwner, writeOwner } from '../../src/cli/owner.ts';

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-owner-'));
});
afterAll(() => rm(directory, { recursive: true }));

describe('the file that names the holder of an embedded queue', () => {
  it.each([
    ['is not there', undefined],
    ['is empty', ''],
    ['is cut off', '{"pid":'],
    ['is of another kind', '[]'],
  ])('the file that names the holder of an embedded queue counts as absent when it %s', async (_, text) => {
    if (text !== undefined) await writeFile(join(directory, 'owner.json'), text);
    expect(await readOwner(directory)).toBeUndefined();
  });

  it('the file that names the holder of an embedded queue is read as it was written', async () => {
    const owner = { pid: 42, url: 'http://127.0.0.1:8080', token: 'a-token', defaultBotId: 'st-1' };
    await writeOwner(directory, owner);
    expect(await readOwner(directory)).toEqual(owner);
  });
});
