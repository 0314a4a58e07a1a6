/** The roles that a token of the API can have: see `src/api/roles.ts` for what each of them permits. */
export const ROLES = ['read', 'listen', 'enqueue', 'operate', 'erase'] as const;
export type Role = (typeof ROLES)[number];

/** The role of tokens that name none. */
export const DEFAULT_ROLE: Role = 'operate';

/** Whether a value is one of {@link ROLES}. */
export function isRole(value: unknown): value is Role {
  return ROLES.some((role) => role === value);
}
