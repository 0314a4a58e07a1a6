import { ERROR_GUIDE } from '../domain/error-guide.ts';
import { ERROR_CODES, isRetryable } from '../domain/errors.ts';
import { ROLES } from '../domain/requests.ts';
import type { Operations } from '../operations/operations.ts';
import { type Identity, permits } from './roles.ts';
import { ErrorCodes, Stats, WhoAmI } from './schemas/stats.ts';
import type { ZodServer } from './validation.ts';

/** What the routes of the overview work with. */
export interface OverviewRoutesOptions {
  readonly operations: Pick<Operations, 'stats'>;
}

/** The overview: counts and health, who is asking, what error codes mean. `app` adds the `/v1`. */
export function addOverviewRoutes(app: ZodServer, { operations }: OverviewRoutesOptions): void {
  app.get(
    '/stats',
    { schema: { tags: ['overview'], summary: 'Health, counts, pace, workers', response: { 200: Stats } } },
    async () => {
      const stats = await operations.stats();
      if (stats.oldestQueuedAt === undefined) return stats;
      const age = Math.max(0, Date.now() - Date.parse(stats.oldestQueuedAt));
      return { ...stats, oldestQueuedSeconds: Math.round(age / 1000) };
    },
  );

  app.get(
    '/whoami',
    {
      schema: {
        tags: ['overview'],
        summary: 'Who is asking, and what they may do',
        response: { 200: WhoAmI },
      },
    },
    async ({ identity }) => whoIs(identity ?? UNKNOWN),
  );

  app.get(
    '/error-codes',
    {
      schema: {
        tags: ['overview'],
        summary: 'What error codes mean, and what to do about each',
        response: { 200: ErrorCodes },
      },
    },
    async () => ERROR_CODE_LIST,
  );
}

/** For types only: the guard lets no request pass without an identity. */
const UNKNOWN: Identity = { name: 'unknown', roles: [] };

function whoIs(identity: Identity) {
  const { name, roles, expiresAt } = identity;
  return {
    name,
    role: ROLES.findLast((role) => roles.includes(role)) ?? 'read',
    permissions: ROLES.filter((permission) => permits(identity, permission)),
    ...(expiresAt !== undefined && { expiresAt: new Date(expiresAt * 1000).toISOString() }),
  };
}

const ERROR_CODE_LIST = {
  codes: ERROR_CODES.map((code) => {
    const { meaning, fix, waits } = ERROR_GUIDE[code];
    return {
      code,
      meaning: plain(meaning),
      fix: plain(fix),
      retryable: isRetryable(code),
      ...(waits && { waits }),
    };
  }),
};

/** Without the marks of Markdown. */
function plain(text: string): string {
  return text.replaceAll('`', '');
}
