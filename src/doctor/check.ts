/** What every check of `doctor` comes to: one line each, with the fix where something is wrong. */

/**
 * `ok`; `warning`: it works, and something may go wrong one day; `failed`: it will not work, or loses data;
 * `skipped`: nothing can be said.
 */
export type CheckStatus = 'ok' | 'warning' | 'failed' | 'skipped';

/** The result of one check. No part of it holds a secret. */
export interface CheckResult {
  /** What was looked at, the same in every run: `queue persistence`. */
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
export interface Fault {
  readonly message: string;
  readonly fix: string;
}

/**
 * Takes the message of an error apart. Those of this project tell what happened, a colon, and what to do (`bucket x
 * does not exist: create it (NoSuchBucket, 404)`); what stands in brackets belongs to the first part.
 *
 * @param fix what to do where the message does not tell.
 */
export function faultOf(error: unknown, fix: string): Fault {
  const text = error instanceof Error ? error.message || error.name : String(error);
  const colon = lastColonOutsideBrackets(text);
  if (colon === -1) return { message: text, fix };
  const [, advice = '', detail = ''] = /^(.*?)( \([^()]*\))?$/s.exec(text.slice(colon + 2)) ?? [];
  return { message: text.slice(0, colon) + detail, fix: advice };
}

function lastColonOutsideBrackets(text: string): number {
  let depth = 0;
  let found = -1;
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index];
    if (character === '(') depth += 1;
    else if (character === ')') depth -= 1;
    else if (depth === 0 && text.startsWith(': ', index)) found = index;
  }
  return found;
}
