/** The results of the checks of `doctor`: one line each, with the fix where something is wrong. */

import { isVoicemailError } from '../domain/errors.ts';

/**
 * `ok`; `warning`: it works, and something may go wrong one day; `failed`: it will not work, or loses data;
 * `skipped`: nothing can be said.
 */
export type CheckStatus = 'ok' | 'warning' | 'failed' | 'skipped';

/** The result of one check. No part of it holds a secret. */
export interface CheckResult {
  /** The subject of the check, the same in every run: `queue persistence`. */
  readonly name: string;
  readonly status: CheckStatus;
  /** What was found. */
  readonly message: string;
  /** What to do about it; there where something is to be done. */
  readonly fix?: string;
}

/** All is well. */
export function ok(name: string, message: string): CheckResult {
  return { name, status: 'ok', message };
}

/** It works, but. */
export function warning(name: string, message: string, fix: string): CheckResult {
  return { name, status: 'warning', message, fix };
}

/** It has to be fixed. */
export function failed(name: string, message: string, fix: string): CheckResult {
  return { name, status: 'failed', message, fix };
}

/** Nothing can be said about it. */
export function skipped(name: string, message: string): CheckResult {
  return { name, status: 'skipped', message };
}

/** What went wrong, apart from what to do about it. */
export interface CheckFault {
  readonly message: string;
  readonly fix: string;
}

/**
 * What went wrong and what to do about it.
 * @param fix what to do where the error has no hint of its own.
 */
export function faultOf(error: unknown, fix: string): CheckFault {
  const message = error instanceof Error ? error.message || error.name : String(error);
  const hint = isVoicemailError(error) ? error.hint : undefined;
  return { message, fix: hint ?? fix };
}
