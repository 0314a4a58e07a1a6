import { useState } from 'preact/hooks';
import { ask, Refusal } from '../api.js';
import { html } from '../html.js';
import { REASON_WORDS } from '../labels.js';
import { Link } from '../router.js';
import { day, number, plural } from '../time.js';
import { Action, showMessage } from './action.js';
import { Empty, Fact, sentence, Time } from './common.js';
import { followUntil } from './follow-run.js';

/** @import { DayReport } from '../../domain/completeness.ts' */
/** @import { Backfill } from '../api-types.js' */

/**
 * @typedef {{ id: string, state: string, days: readonly DayReport[], error?: { code: string, message: string } }} Run
 */

/**
 * A day: what became of its sessions, which are missing, and how to get them.
 *
 * @param {{ report: DayReport, reload: () => void }} props
 */
export function DayDetail({ report, reload }) {
  const { date, botId } = report;
  const [found, setFound] = useState(/** @type {Backfill | undefined} */ (undefined));
  const [progress, setProgress] = useState('');

  const compare = (/** @type {boolean} */ reportOnly) => async () => {
    const { id } = /** @type {Run} */ (
      await ask('/v1/completeness', {
        method: 'POST',
        json: { botId, from: date, to: date, write: true, ...(reportOnly && { reportOnly }) },
      })
    );
    void follow(async () => {
      setProgress('A worker compares the day with Kore');
      const run = await followUntil(
        `/v1/completeness/${encodeURIComponent(id)}`,
        (/** @type {Run} */ one) => one.state === 'completed' || one.state === 'failed',
      );
      if (run.error) throw new Refusal(0, run.error.code, run.error.message);
      reload();
      const queued = run.days.reduce((sum, one) => sum + one.queued, 0);
      return reportOnly
        ? 'The day is compared.'
        : `The day is compared: ${plural(queued, 'session')} queued.`;
    });
    return 'A worker compares the day with Kore.';
  };
  const list = async () => {
    const from = `${date}T00:00:00Z`;
    const end = new Date(Date.parse(from) + 86_400_000);
    const to = end.getTime() > Date.now() ? undefined : end.toISOString();
    const { id } = /** @type {Backfill} */ (
      await ask('/v1/backfills', { method: 'POST', json: { botId, from, ...(to && { to }), dryRun: true } })
    );
    void follow(async () => {
      setProgress('A worker lists what is missing');
      const backfill = await followUntil(
        `/v1/backfills/${encodeURIComponent(id)}`,
        (/** @type {Backfill} */ one) => ['listed', 'cancelled', 'failed'].includes(one.state),
      );
      if (backfill.state === 'failed') {
        const { code = 'INTERNAL', message = 'the listing failed' } = backfill.error ?? {};
        throw new Refusal(0, code, message);
      }
      setFound(backfill);
      return `${plural(backfill.missing, 'session')} missing from the archive.`;
    });
    return 'A worker lists what is missing.';
  };
  /** @param {() => Promise<string>} work */
  const follow = async (work) => {
    try {
      showMessage({ level: 'ok', text: await work() });
    } catch (error) {
      showMessage({
        level: 'trouble',
        text: error instanceof Refusal ? sentence(error.message) : String(error),
      });
    } finally {
      setProgress('');
    }
  };

  return html`<section aria-labelledby="the-day">
    <h2 id="the-day">${day(date)}</h2>
    <ul class="notes">
      ${report.reasons.map((reason) => html`<li>${REASON_WORDS[reason] ?? reason}</li>`)}
      ${report.complete ? html`<li>All was seen, and nothing is left to be done.</li>` : ''}
      ${report.error ? html`<li><code>${report.error.code}</code> ${sentence(report.error.message)}</li>` : ''}
    </ul>
    <div class="actions" role="group" aria-label="Actions">
      <${Action}
        label="Queue what is missing"
        kind="primary"
        permission="operate"
        question=${`A worker lists ${day(date)} at Kore and queues what is neither archived nor queued, behind live sessions.`}
        act=${compare(false)}
      />
      <${Action} label="List what is missing" permission="operate" act=${list} />
      <${Action} label="Compare again" permission="operate" act=${compare(true)} />
    </div>
    ${progress === '' ? '' : html`<p class="loading" role="status">${progress}…</p>`}
    ${found ? html`<${Missing} backfill=${found} />` : ''}
    <div class="columns">
      <dl>
        <${Fact} name="Listed by Kore">${number(report.listed)}<//>
        <${Fact} name="Archived">${number(report.archived)}<//>
        <${Fact} name="Without a voicemail">${number(report.withoutVoicemail)}<//>
        <${Fact} name="Erased">${number(report.erased)}<//>
      </dl>
      <dl>
        <${Fact} name="Missing">${number(report.missing)}<//>
        <${Fact} name="Waiting">${number(report.waiting)}<//>
        <${Fact} name="Failed">
          ${number(report.failed)}${' '}
          ${Object.entries(report.failedByCode).map(
            ([
              code,
              count,
            ]) => html`<br /><${Link} to=${`/sessions?state=failed&code=${encodeURIComponent(code)}`}>
              ${number(count)} <code>${code}</code>
            <//>`,
          )}
        <//>
        <${Fact} name="Partly saved">${number(report.partial)}<//>
      </dl>
      <dl>
        <${Fact} name="Not known whether they have a voicemail">${number(report.unknown)}<//>
        <${Fact} name="Transcript awaited">${number(report.transcriptPending)}<//>
        ${
          report.hoursLeft === undefined
            ? ''
            : html`<${Fact} name="Kore forgets the first in">${plural(Math.round(report.hoursLeft), 'hour')}<//>`
        }
        <${Fact} name="Compared">
          ${
            report.reasons.includes('not-computed')
              ? html`<span class="none">never</span>`
              : html`<${Time} at=${report.computedAt} />`
          }
        <//>
      </dl>
    </div>
  </section>`;
}

/** @param {{ backfill: Backfill }} props */
function Missing({ backfill }) {
  const { missing, missingSessions = [], botId } = backfill;
  if (missing === 0) return html`<${Empty}>Nothing is missing from the archive.<//>`;
  return html`<h3>${plural(missing, 'session')} missing from the archive</h3>
    <ul class="ids">
      ${missingSessions.map(
        (id) => html`<li key=${id}>
          <${Link} to=${`/sessions/${encodeURIComponent(id)}?botId=${encodeURIComponent(botId)}`}><code>${id}</code><//>
        </li>`,
      )}
    </ul>
    ${missing > missingSessions.length ? html`<p class="hint">The first ${number(missingSessions.length)} are shown.</p>` : ''}`;
}
