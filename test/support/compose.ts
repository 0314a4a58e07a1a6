/** compose.yaml as Docker Compose reads it. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';

const ROOT = join(import.meta.dirname, '../..');

const Duration = z.string().regex(/^\d+s$/);
const Condition = z.enum(['service_started', 'service_healthy']);
/** What is used of the Compose specification; test/deploy/compose-hardening.test.ts says what services have to have. */
const Service = z.strictObject({
  image: z.string(),
  build: z.literal('.').optional(),
  command: z.array(z.string()).optional(),
  entrypoint: z.array(z.string()).optional(),
  user: z.string().optional(),
  environment: z.record(z.string(), z.string()).optional(),
  secrets: z.array(z.string()).optional(),
  ports: z.array(z.string()).optional(),
  volumes: z.array(z.string()).optional(),
  tmpfs: z.array(z.string()).optional(),
  depends_on: z
    .union([z.array(z.string()), z.record(z.string(), z.strictObject({ condition: Condition }))])
    .optional(),
  healthcheck: z
    .strictObject({
      test: z.array(z.string()),
      interval: Duration,
      timeout: Duration,
      retries: z.int().positive(),
    })
    .optional(),
  stop_grace_period: Duration.optional(),
  read_only: z.boolean().optional(),
  cap_drop: z.array(z.string()).optional(),
  security_opt: z.array(z.string()).optional(),
  restart: z.literal('unless-stopped'),
  logging: z
    .strictObject({ driver: z.string(), options: z.record(z.string(), z.string()).optional() })
    .optional(),
  deploy: z.strictObject({
    resources: z.strictObject({
      limits: z.strictObject({ cpus: z.string().optional(), memory: z.string().optional() }),
    }),
  }),
});
const Compose = z.strictObject({
  name: z.string(),
  'x-logging': z.unknown(),
  'x-hardened': z.unknown(),
  'x-archiver': z.unknown(),
  services: z.record(z.string(), Service),
  secrets: z.record(z.string(), z.strictObject({ file: z.string() })),
  volumes: z.record(z.string(), z.null()),
});

/** A service of compose.yaml. */
export type ComposeService = z.infer<typeof Service>;

/** The text of compose.yaml. */
export function composeText(): string {
  return readFileSync(join(ROOT, 'compose.yaml'), 'utf8');
}

/**
 * What compose.yaml says where these variables are set, as in a file `.env` beside it.
 * https://docs.docker.com/reference/compose-file/interpolation/
 */
export function readCompose(variables: Readonly<Record<string, string>> = {}): z.infer<typeof Compose> {
  const fill = (text: string) =>
    text.replaceAll(
      /\$\$|\$\{(\w+)(:?)-([^}]*)\}/g,
      (all, name: string | undefined, colon: string, standard: string) => {
        if (name === undefined) return all.slice(1);
        const value = variables[name];
        return value === undefined || (colon === ':' && value === '') ? standard : value;
      },
    );
  const filled: unknown = JSON.parse(
    JSON.stringify(parse(composeText(), { merge: true })),
    (_key, value: unknown) => (typeof value === 'string' ? fill(value) : value),
  );
  return Compose.parse(filled);
}

/** A service by its name. */
export function serviceOf(
  { services }: { readonly services: Readonly<Record<string, ComposeService>> },
  name: string,
): ComposeService {
  const service = services[name];
  if (!service) throw new Error(`compose.yaml has no service ${name}`);
  return service;
}
