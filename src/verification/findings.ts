/** The kinds of findings of a verification. */

/**
 * `missing`: an object that a manifest names is not there, or a session requested by its id is not archived.
 * `changed`: an object is there and is not what its manifest says. `unreadable`: it could not be read, however often
 * it was tried, or is no manifest. `partial`: only some of a session's recordings are saved. `orphaned`: an object that
 * no manifest names.
 *
 * Where signatures are checked too, `missing` is also what a digest names and is not there, and `changed` what is not
 * as it was signed or as a digest says. `forged`: a record that none of the given keys signed. `unlisted`: one that is
 * signed, and that the digests of its time do not name.
 */
export const FINDING_KINDS = [
  'missing',
  'changed',
  'unreadable',
  'partial',
  'orphaned',
  'forged',
  'unlisted',
] as const;
export type FindingKind = (typeof FINDING_KINDS)[number];

/** What was expected of an object, or found of it: only where the two differ. */
export interface Facts {
  readonly bytes?: number;
  /** Lowercase hex. */
  readonly sha256?: string;
  /** As in the manifest's audio facts, such as `wav`; `none` where nothing is recognised. */
  readonly container?: string;
  /** Full key. */
  readonly key?: string;
  readonly sessionId?: string;
  readonly botId?: string;
}

/** One thing that is wrong in the archive. */
export interface Finding {
  readonly kind: FindingKind;
  /** Full key of the object, or of a directory (with `/` at its end) that could not be looked into. */
  readonly key: string;
  /** The session in whose directory it lies; left out of what lies elsewhere. */
  readonly sessionId?: string;
  readonly botId?: string;
  /** In words, for people. */
  readonly what: string;
  readonly expected?: Facts;
  readonly found?: Facts;
  /** Whether archiving the session again may fix it. */
  readonly repairable: boolean;
}

/** What a verification has read, and its findings by kind. */
export interface Totals {
  /** Session directories. */
  readonly sessions: number;
  /** Objects read: manifests, recordings and transcripts. */
  readonly objects: number;
  /** Of those objects. */
  readonly bytes: number;
  /** Recordings that are as they were archived, and that disagreed with themselves then: no fault of the archive's. */
  readonly suspect: number;
  readonly findings: Readonly<Record<FindingKind, number>>;
}

/** The totals at the start of a verification. */
export const NO_TOTALS: Totals = {
  sessions: 0,
  objects: 0,
  bytes: 0,
  suspect: 0,
  findings: { missing: 0, changed: 0, unreadable: 0, partial: 0, orphaned: 0, forged: 0, unlisted: 0 },
};

/** The result of checking one thing. */
export interface CheckOutcome {
  readonly sessions: number;
  readonly objects: number;
  readonly bytes: number;
  readonly suspect: number;
  readonly findings: readonly Finding[];
}

/** The result where there was nothing to check. */
export const NO_OUTCOME: CheckOutcome = { sessions: 0, objects: 0, bytes: 0, suspect: 0, findings: [] };

/** The totals with one more outcome in them. */
export function addOutcome(totals: Totals, outcome: CheckOutcome): Totals {
  const findings = { ...totals.findings };
  for (const { kind } of outcome.findings) findings[kind] += 1;
  return {
    sessions: totals.sessions + outcome.sessions,
    objects: totals.objects + outcome.objects,
    bytes: totals.bytes + outcome.bytes,
    suspect: totals.suspect + outcome.suspect,
    findings,
  };
}

/** How much was found in all. */
export function countFindings({ findings }: Totals): number {
  return FINDING_KINDS.reduce((sum, kind) => sum + findings[kind], 0);
}
