import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readDockerfile } from '../../scripts/dockerfile.ts';
import { faultsOfConfig, imageConfig, type PackageFacts } from '../../scripts/image-config.ts';
import { VARIABLES } from '../../src/config/variables.ts';
import { runInProcess } from '../support/in-process-command.ts';

const ROOT = join(import.meta.dirname, '../..');
const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
const facts = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as PackageFacts;
const config = imageConfig(readDockerfile(dockerfile));

describe('the Dockerfile', () => {
  it('makes an image that says of itself what it should', () => {
    expect(faultsOfConfig(config, facts)).toEqual([]);
    expect(config.labels).toEqual({
      'org.opencontainers.image.title': 'Voicemail Archiver',
      'org.opencontainers.image.description':
        'Saves Kore.ai voicemails into S3 before their signed URLs expire',
      'org.opencontainers.image.licenses': facts.license,
      'org.opencontainers.image.version': facts.version,
      'org.opencontainers.image.revision': 'unknown',
    });
  });

  it.each<[what: string, before: string | RegExp, after: string, fault: RegExp]>([
    ['root', 'USER 1000:1000', 'USER root', /^USER is "root"/],
    ['no user', /^USER .*$/m, '', /^USER is ""/],
    ['a user by name', 'USER 1000:1000', 'USER node', /^USER is "node"/],
    ['another version', /^ARG VERSION=.*$/m, 'ARG VERSION=0.0.9', /^the label version is "0.0.9"/],
    ['a version that is not told', /^ARG VERSION=.*$/m, '', /^the label version is ""/],
    ['another license', 'licenses="MIT"', 'licenses="ISC"', /^the label licenses is "ISC"/],
    ['no title', /title="[^"]*"/, 'name=""', /^the labels title and description/],
    ['no revision', /^ARG REVISION=.*$/m, '', /^the label revision/],
    [
      'a program behind a shell',
      /^ENTRYPOINT .*$/m,
      'ENTRYPOINT node /app/dist/cli.js',
      /^ENTRYPOINT or CMD/,
    ],
    ['no health check', /^HEALTHCHECK [^\n]*\n[^\n]*$/m, '', /^there is no HEALTHCHECK/],
    [
      'a health check by a shell',
      /CMD \["node", "-e".*$/m,
      'CMD curl -f localhost',
      /^there is no HEALTHCHECK/,
    ],
    ['a health check for ever', '--timeout=5s ', '', /^HEALTHCHECK has no --timeout/],
    ['a work directory that is no volume', /^VOLUME .*$/m, '', /^WORKDIR/],
    ['another port', 'EXPOSE 8080', 'EXPOSE 80', /^EXPOSE/],
    ['storage that ends with it', ' REQUIRE_STORAGE=true', '', /^REQUIRE_STORAGE/],
    ['a secret', 'ENV NODE_ENV', 'ENV API_TOKEN=x NODE_ENV', /^ENV holds/],
  ])('would be found to make one with %s', (_what, before, after, fault) => {
    const changed = dockerfile.replace(before, after);
    expect(changed).not.toBe(dockerfile);

    const faults = faultsOfConfig(imageConfig(readDockerfile(changed)), facts);
    expect(
      faults.some((line) => fault.test(line)),
      faults.join('; '),
    ).toBe(true);
  });

  it('serves at the port that it exposes, and starts a command that there is', async () => {
    expect(VARIABLES.find(({ name }) => name === 'HTTP_PORT')?.standard).toBe(String(config.ports[0]));
    const [command = ''] = config.command;
    const { code, stdout } = await runInProcess([command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain(`Usage: ${Object.keys(facts.bin)[0]} ${command} `);
  });
});
