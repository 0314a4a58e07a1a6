import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/settings.ts';

const S3 = { ARCHIVE_URL: 's3://archive' };

function faultsOf(environment: Record<string, string>) {
  try {
    loadConfig(environment, { needs: [] });
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.faults;
  }
}

describe('TRANSFER_MEMORY', () => {
  it.each([
    { ...S3 },
    { ...S3, TRANSFER_MEMORY: '64MiB' },
    { ...S3, TRANSFER_MEMORY: '32MiB' },
    { ...S3, TRANSFER_MEMORY: '11MiB' },
    { TRANSFER_MEMORY: '1MiB', MAX_RECORDING_BYTES: '5TiB' },
  ])('TRANSFER_MEMORY is enough for one recording at a time: %o', (environment) => {
    expect(faultsOf(environment)).toEqual([]);
  });

  it.each([
    [{ ...S3, TRANSFER_MEMORY: '10MiB' }, /give at least 11MiB/],
    [{ ...S3, TRANSFER_MEMORY: '1MiB' }, /give at least 11MiB/],
    // Parts of 105 MiB, as there may be no more than 10,000 of them.
    [{ ...S3, MAX_RECORDING_BYTES: '1TiB', TRANSFER_MEMORY: '200MiB' }, /give at least 211MiB/],
  ])('a TRANSFER_MEMORY that could not be kept is refused: %o', (environment, message) => {
    expect(faultsOf(environment)).toEqual([
      { variable: 'TRANSFER_MEMORY', message: expect.any(String), hint: expect.stringMatching(message) },
    ]);
  });
});
