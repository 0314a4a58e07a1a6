import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { describe, expect, test } from 'vitest';
import { configurationDocs } from '../../scripts/configuration-docs.ts';
import { envExample } from '../../scripts/env-example.ts';
import { loadConfig } from '../../src/config/load.ts';
import { VARIABLES } from '../../src/config/variables.ts';

const ROOT = join(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

describe('docs/configuration.md', () => {
  test('docs/configuration.md is what "npm run docs:config" writes', () => {
    expect(read('docs/configuration.md')).toBe(configurationDocs());
  });

  test('docs/configuration.md has each variable in one row', () => {
    const rows = read('docs/configuration.md').match(/^\| `[A-Z0-9_]+`(?= (\*|\|))/gm) ?? [];
    const names = rows.map((row) => row.slice(3, -1)).filter((name) => name !== 'QUEUE_URL');
    expect(names).toEqual(VARIABLES.map(({ name }) => name).filter((name) => name !== 'QUEUE_URL'));
  });
});

describe('.env.example', () => {
  test('.env.example is what "npm run docs:config" writes', () => {
    expect(read('.env.example')).toBe(envExample());
  });

  test('.env.example has each variable with its default or an example, and sets none as it is', () => {
    expect(parseEnv(envExample())).toEqual({});
    const settings = parseEnv(envExample().replaceAll(/^#(?=[A-Z0-9_]+=)/gm, ''));
    expect(settings).toEqual(
      Object.fromEntries(VARIABLES.map(({ name, standard, example }) => [name, standard ?? example])),
    );
  });
});

describe('the table of variables', () => {
  test('the table of variables names each variable that src/config reads, and no other', () => {
    const sources = readdirSync(join(ROOT, 'src/config'))
      .filter((file) => file !== 'variables.ts')
      .map((file) => read(`src/config/${file}`))
      .join('\n');
    const unread = VARIABLES.filter(({ name }) => !sources.includes(`'${name}'`)).map(({ name }) => name);
    expect(unread).toEqual([]);
  });

  test('the defaults in the table of variables mean the same when they are written down', () => {
    const written = VARIABLES.filter(({ standard }) => standard !== undefined).map(
      ({ name, standard }) => [name, standard] as const,
    );
    // What tells whether the port is the default is whether it is written.
    const { http, ...config } = loadConfig(Object.fromEntries(written), { needs: [] });
    const { http: standardHttp, ...standard } = loadConfig({}, { needs: [] });
    expect(config).toEqual(standard);
    expect(http).toEqual({ ...standardHttp, isPortDefault: undefined });
  });

  test('the examples in the table of variables are accepted', () => {
    for (const { name, example, isSecret } of VARIABLES) {
      if (isSecret && example.includes(' ')) continue;
      const others = name === 'S3_KMS_KEY_ID' ? { S3_SSE: 'aws:kms' } : {};
      const jwt = name.startsWith('API_J')
        ? Object.fromEntries(
            VARIABLES.filter((v) => v.name.startsWith('API_J')).map((v) => [v.name, v.example]),
          )
        : {};
      const notify = name === 'NOTIFY_URL' ? { NOTIFY_SECRET: 'a long random text' } : {};
      const storage = name === 'REQUIRE_STORAGE' ? { QUEUE_URL: 'redis://r', ARCHIVE_URL: 'file:/a' } : {};
      // It has to be there.
      const value = name === 'MANIFEST_KEY_FILE' ? 'test/fixtures/signing/private-key.pem' : example;
      const environment = { ...others, ...jwt, ...notify, ...storage, [name]: value };
      expect(() => loadConfig(environment, { needs: [] }), name).not.toThrow();
    }
  });
});
