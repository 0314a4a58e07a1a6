/** Writes docs/configuration.md from the table of variables. */

import { writeFileSync } from 'node:fs';
import { VARIABLE_GROUPS, type Variable } from '../src/config/variables.ts';

const PATH = new URL('../docs/configuration.md', import.meta.url);

const HEAD = `# Configuration

<!-- Written by "npm run docs:config" from src/config/variables.ts: change it there. -->

Environment variables, or a file \`.env\` in the working directory, over which the environment wins. Empty variables are
unset. Secrets can also come from a file: set \`NAME_FILE\` to its path instead of \`NAME\`, where the table says
*secret*. All faults are reported at once, each with its variable, before anything starts; the exit code is 2.

A variable that is not known, but close to one that is and is not set, is a fault ("did you mean ARCHIVE_URL?"): the
program would otherwise go by a default. Other names that begin like ours are reported as warnings.

Durations are written \`250ms\`, \`30s\`, \`5m\`, \`24h\`, \`7d\`, \`2w\`, \`1y\`; sizes \`64KB\` (1000) or \`256MiB\` (1024).
`;

const TAIL = `
## Queues

| \`QUEUE_URL\` | |
| --- | --- |
| \`embedded:DIR\` | PostgreSQL inside the process, in a directory (made readable by its owner alone); for one process |
| \`redis://user:password@host:6379/0\`, \`rediss://...\` | a Redis server, with TLS. It needs \`maxmemory-policy noeviction\` and an append-only file |
| \`redis://user:password@a:6379,b:6379,c:6379?cluster=true\` | a Redis cluster; any of the seeds is enough, and nodes found later are used to connect again |
| \`redis+sentinel://user:password@s1:26379,s2/name/0\` | a master found by Sentinel. \`?tls=true\` for the servers, \`?sentinelTls=true\` for the Sentinels (\`rediss+sentinel://\` for both), \`sentinelUsername\` and \`sentinelPassword\` for the Sentinels |
| \`postgres://user:password@host:5432/database\` | a PostgreSQL server; PgBouncer in front of it has to pool sessions, as the queue listens for notifications |

Special characters in user names and passwords are percent-encoded. A server that is not there yet, or is loading its
data, is waited for at the start, for a minute.

## Proxies

With \`HTTPS_PROXY\` (and \`HTTP_PROXY\` for plain http) requests to Kore, for recordings, to the bucket and for traces go
through that proxy. It resolves the names, so that the check for private addresses, which needs the address, is the
proxy's from then on: let it refuse private networks and cloud metadata addresses. The list of allowed media hosts
holds as before, literal private addresses included. A proxy that opens TLS needs its authority in
\`NODE_EXTRA_CA_CERTS\`. For the bucket and for traces the proxy takes Node 22.21, 24.5 or newer.

## The AWS SDK's own

Credentials, region and endpoint come by the [AWS SDK's standard
chain](https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html): \`AWS_REGION\`,
\`AWS_ENDPOINT_URL_S3\`, \`AWS_PROFILE\`, \`AWS_ACCESS_KEY_ID\` and so on; \`OTEL_*\` variables beyond those above are
OpenTelemetry's own. Both may stand in \`.env\` too.
`;

/** The whole document. */
export function configurationDocs(): string {
  const groups = VARIABLE_GROUPS.map(
    ({ title, variables }) =>
      `\n## ${title}\n\n| variable | default | meaning |\n| --- | --- | --- |\n${variables.map(row).join('')}`,
  );
  return HEAD + groups.join('') + TAIL;
}

function row({ name, standard, isSecret, meaning }: Variable): string {
  const secret = isSecret ? ' *secret*' : '';
  return `| \`${name}\`${secret} | ${standard === undefined ? '' : `\`${standard}\``} | ${meaning} |\n`;
}

if (import.meta.main) writeFileSync(PATH, configurationDocs());
