/** Writes dependency-rules.json, which `biome ci` checks, from the two tables below. */

import { writeFileSync } from 'node:fs';

const PATH = new URL('../dependency-rules.json', import.meta.url);

/** What each folder and each file at the top of `src/` may import of ours, besides itself. */
export const FOLDERS: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  util: ['domain'],
  config: ['domain', 'util'],
  kore: ['domain', 'util', 'config'],
  storage: ['domain', 'util', 'config'],
  jobs: ['domain', 'util', 'config'],
  signing: ['domain', 'util', 'config', 'storage'],
  'audit-log': ['domain', 'util', 'storage'],
  transfer: ['domain', 'util', 'config', 'kore', 'storage'],
  workers: ['domain', 'util', 'config', 'kore', 'storage', 'jobs', 'transfer'],
  notifications: ['domain', 'util', 'config', 'jobs', 'transfer'],
  verification: ['domain', 'util', 'config', 'storage', 'signing', 'transfer'],
  backfills: ['domain', 'util', 'config', 'kore', 'storage', 'jobs', 'workers'],
  completeness: ['domain', 'util', 'config', 'kore', 'storage', 'jobs', 'workers', 'backfills'],
  operations: ['domain', 'util', 'config', 'storage', 'jobs'],
  observability: [
    'domain',
    'util',
    'config',
    'kore',
    'storage',
    'jobs',
    'transfer',
    'workers',
    'backfills',
    'notifications',
  ],
  doctor: ['domain', 'util', 'config', 'kore', 'storage', 'jobs'],
  sandbox: ['domain', 'util'],
  page: ['domain'],
  api: [
    'domain',
    'util',
    'config',
    'jobs',
    'operations',
    'backfills',
    'completeness',
    'observability',
    'page',
  ],
  library: ['domain', 'util', 'config', 'storage', 'jobs', 'operations'],
  'worker-runtime.ts': [
    'domain',
    'util',
    'config',
    'kore',
    'storage',
    'jobs',
    'signing',
    'transfer',
    'workers',
    'notifications',
    'backfills',
    'completeness',
    'observability',
  ],
  'runtime.ts': [
    'domain',
    'util',
    'config',
    'storage',
    'jobs',
    'signing',
    'audit-log',
    'workers',
    'notifications',
    'backfills',
    'completeness',
    'operations',
    'observability',
    'worker-runtime.ts',
  ],
  cli: [
    'domain',
    'util',
    'config',
    'storage',
    'jobs',
    'signing',
    'transfer',
    'workers',
    'verification',
    'backfills',
    'completeness',
    'operations',
    'observability',
    'doctor',
    'sandbox',
    'api',
    'runtime.ts',
    'worker-runtime.ts',
  ],
  'cli.ts': ['cli'],
  'index.ts': ['domain', 'config', 'library'],
};

/** A package from outside, and what may import it. */
interface Library {
  readonly packages: readonly string[];
  readonly owners: readonly string[];
}

/**
 * Each package belongs to one folder. A second owner has its reason in docs/architecture.md; zod reads whatever comes
 * from outside, wherever that is.
 */
export const LIBRARIES: readonly Library[] = [
  { packages: ['cron-parser'], owners: ['config'] },
  { packages: ['bullmq'], owners: ['jobs', 'doctor', 'observability', 'api'] },
  { packages: ['ioredis', 'pg'], owners: ['jobs', 'doctor'] },
  { packages: ['@electric-sql'], owners: ['jobs'] },
  { packages: ['@aws-sdk'], owners: ['storage', 'doctor'] },
  { packages: ['@smithy'], owners: ['storage'] },
  { packages: ['undici', 'pino'], owners: ['util'] },
  { packages: ['ipaddr.js'], owners: ['transfer'] },
  { packages: ['jose'], owners: ['api', 'sandbox'] },
  { packages: ['bullmq-otel', 'prom-client', '@opentelemetry'], owners: ['observability'] },
  { packages: ['fastify', '@fastify', '@bull-board', 'openapi-types'], owners: ['api'] },
  { packages: ['commander', 'cli-progress'], owners: ['cli'] },
  { packages: ['preact', 'htm', 'uplot'], owners: ['page'] },
  {
    packages: ['zod'],
    owners: [
      'kore',
      'storage',
      'signing',
      'verification',
      'completeness',
      'operations',
      'api',
      'library',
      'cli',
    ],
  },
];

/** A pattern of imports that are refused, and what the linter says of it. */
interface Refusal {
  readonly group: readonly string[];
  readonly message: string;
}

const NO_ROW = 'it has no row in scripts/dependency-rules.ts yet';

/** Comes first, so that every later rule replaces it: what has no row may import nothing. */
const WITHOUT_ROW: readonly Refusal[] = [
  { group: ['../**', './*/**'], message: NO_ROW },
  { group: ['*', '!node:*', '!./**', '!../**'], message: NO_ROW },
];

/**
 * The text of dependency-rules.json, in the shape of Biome's configuration:
 * https://biomejs.dev/linter/rules/no-restricted-imports
 */
export function dependencyRulesText(): string {
  const rules = Object.entries(FOLDERS).map(([name, allowed]) =>
    rule(inSource(name), refusals(name, allowed)),
  );
  return `{
  "linter": { "rules": { "suspicious": { "noImportCycles": "error" } } },
  "overrides": [
${[rule('**', WITHOUT_ROW), ...rules].join(',\n')}
  ]
}
`;
}

function refusals(name: string, allowed: readonly string[]): readonly Refusal[] {
  const others = Object.keys(FOLDERS).filter((other) => other !== name && !allowed.includes(other));
  const what = allowed.length === 0 ? 'nothing of ours' : `${allowed.join(', ')} and nothing else of ours`;
  const foreign = LIBRARIES.filter(({ owners }) => !owners.includes(name)).map(({ packages, owners }) => ({
    group: packages.flatMap((of) => [of, `${of}/**`]),
    message: `only ${owners.join(' and ')} may import it (docs/architecture.md)`,
  }));
  return [
    {
      group: others.map((other) => `**/${inSource(other)}`),
      message: `${name} imports ${what} (docs/architecture.md)`,
    },
    ...foreign,
    ...(name === 'page'
      ? [{ group: ['node:*'], message: 'page runs in browsers (docs/architecture.md)' }]
      : []),
  ];
}

/** A pattern for a file, or for everything in a folder. */
function inSource(name: string): string {
  return name.endsWith('.ts') ? name : `${name}/**`;
}

/** One of Biome's overrides, a line for each refusal. */
function rule(includes: string, patterns: readonly Refusal[]): string {
  const lines = patterns.map((pattern) => `      ${JSON.stringify(pattern)}`).join(',\n');
  return `    { "includes": ["src/${includes}"], "linter": { "rules": { "style": { "noRestrictedImports": { "level": "error", "options": { "patterns": [
${lines}
    ] } } } } } }`;
}

if (import.meta.main) writeFileSync(PATH, dependencyRulesText());
