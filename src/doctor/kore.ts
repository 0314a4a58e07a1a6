/** The Kore app's credentials: a signed call tells what Kore thinks of them, as far as it says. */

import type { KoreConfig } from '../config/config.ts';
import { isArchiverError } from '../errors.ts';
import { inspectKore, isAccepted, type KoreFinding, type KoreFindings } from '../kore/inspect-kore.ts';
import { type CheckResult, failed, faultOf, ok, skipped, warning } from './check.ts';
import type { ClockComparison } from './clock.ts';

const KORE = 'kore';
const LISTING = 'kore listing';
/** Whose clock is meant. */
const CLOCK = 'Kore';

const NOT_KORE = 'correct KORE_HOST, and look for a proxy between here and there that answers in its place';
const LOOK = 'look at KORE_HOST, and at the network between here and there (firewall, proxy, certificates)';

/** Two results: voicemails may be asked for, and so may the listing that backfills go by. */
export async function checkKore(
  config: KoreConfig,
  clock: ClockComparison,
  now: () => number,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  const onDate = (date: string | undefined) => clock.observe(CLOCK, date);
  const found = await inspectKore(config, { now, onDate }, signal);
  return [judgeVoicemail(found.voicemail, config, clock), judgeListing(found)];
}

function judgeVoicemail(found: KoreFinding, config: KoreConfig, clock: ClockComparison): CheckResult {
  const { fault, isKores } = found;
  const host = new URL(config.baseUrl).host;
  if (isAccepted(found)) {
    return ok(KORE, `${host} accepts the credentials for voicemails of bot ${config.botId}`);
  }
  const { message, mend } = faultOf(fault, isKores === true ? `look at what ${host} says` : LOOK);
  if (isKores === false && !isArchiverError(fault, 'KORE_UNAVAILABLE')) {
    return failed(KORE, `what answers at ${host} is not Kore's API (${message})`, NOT_KORE);
  }
  if (isArchiverError(fault, 'KORE_UNAUTHORIZED')) {
    const offset = clock.trouble(CLOCK);
    return offset === undefined
      ? failed(KORE, message, mend)
      : failed(KORE, `${message}; ${offset}`, `set this machine's clock; otherwise ${mend}`);
  }
  if (isArchiverError(fault, 'KORE_RATE_LIMITED')) {
    return warning(
      KORE,
      `${message}, so the credentials could not be tried`,
      'run this again a little later',
    );
  }
  if (isArchiverError(fault, 'SESSION_NOT_FOUND')) {
    return warning(
      KORE,
      `${host} answers "not found" (404), but not in Kore's words: it may be another server`,
      'look whether KORE_HOST is right',
    );
  }
  if (isArchiverError(fault, 'KORE_BAD_RESPONSE') && !fault.retryable) {
    return warning(KORE, `Kore accepts the credentials, but not a made-up session id (${message})`, mend);
  }
  return failed(KORE, message, mend);
}

/** Archiving goes on without it. */
function judgeListing({ listing }: KoreFindings): CheckResult {
  if (!listing) return skipped(LISTING, 'not asked, as the call before failed');
  const by = listing.source === 'calls' ? 'call details' : 'the sessions history';
  if (listing.fault === undefined) return ok(LISTING, `backfills can go by ${by}`);
  const { message, mend } = faultOf(listing.fault, LOOK);
  return warning(LISTING, `backfills can not go by ${by}: ${message}`, mend);
}
