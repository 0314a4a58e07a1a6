import { ask } from '../api.js';
import { html } from '../html.js';
import { dependencyName, STATE_WORDS, STATES } from '../labels.js';
import { Action } from '../parts/action.js';
import { Empty, Fact, Heading, Loading, Time, Trouble } from '../parts/common.js';
import { ThroughputChart } from '../parts/throughput-chart.js';
import { Link } from '../router.js';
import { duration, number, plural } from '../time.js';
import { useData } from '../use-data.js';

/** @import { RateLimit, Stats, WorkerView } from '../api-types.js' */
/** @import { BreakerView } from '../../domain/views.ts' */

const REFRESH_MS = 5_000;

/** Is it well? */
export function NowView() {
  const {
    data: stats,
    error,
    reload,
  } = /** @type {import('../use-data.js').Loaded<Stats>} */ (
    useData('/v1/stats', { everyMs: REFRESH_MS, on: () => true })
  );
  return html`
    <${Heading} title="Now">
      ${stats ? html`<${Pause} stats=${stats} reload=${reload} />` : ''}
    <//>
    ${
      error
        ? html`<${Trouble}
          error=${error}
          what="What is going on could not be asked"
          hasOldData=${stats !== undefined}
          onRetry=${reload}
        />`
        : ''
    }
    ${stats ? html`<${Overview} stats=${stats} />` : error ? '' : html`<${Loading} />`}
  `;
}

/** @param {{ stats: Stats, reload: () => void }} props */
function Pause({ stats, reload }) {
  const change = (/** @type {string} */ method, /** @type {string} */ done) => async () => {
    await ask('/v1/pause', { method });
    reload();
    return done;
  };
  return stats.paused
    ? html`<${Action} label="Resume" kind="primary" permission="operate" act=${change('DELETE', 'Workers take sessions again.')} />`
    : html`<${Action}
        label="Pause"
        permission="operate"
        question="No worker takes a session until somebody resumes. Sessions in work go on."
        act=${change('PUT', 'Paused: no session is taken until somebody resumes.')}
      />`;
}

/** @param {{ stats: Stats }} props */
function Overview({ stats }) {
  const { states, throughput, health, oldestQueuedAt, backlog, transcriptsPending } = stats;
  const archived = throughput.reduce((sum, one) => sum + one.archived, 0);
  const failed = throughput.reduce((sum, one) => sum + one.failed, 0);
  return html`
    <p class="health ${health.level}" role="status">${health.text}</p>
    <section aria-labelledby="states">
      <h2 id="states">Sessions by state</h2>
      <ul class="states">
        ${STATES.map(
          (state) => html`<li>
            <${Link} to=${`/sessions?state=${state}`} title=${STATE_WORDS[state]}>
              <span class="count">${number(states[state])}</span>
              <span class="state ${state}">${state}</span>
            <//>
          </li>`,
        )}
      </ul>
    </section>
    <section aria-labelledby="hour">
      <h2 id="hour">The last hour</h2>
      <p>${plural(archived, 'session')} archived, ${number(failed)} failed.</p>
      <${ThroughputChart} minutes=${throughput} />
    </section>
    <div class="columns">
      <section aria-labelledby="backlog">
        <h2 id="backlog">Backlog</h2>
        <dl>
          <${Fact} name="To be archived">
            ${plural(backlog.sessions, 'session')}
          <//>
          <${Fact} name="Done in">
            ${
              backlog.sessions === 0
                ? html`<span class="none">nothing to do</span>`
                : backlog.secondsUntilDone === undefined
                  ? html`<span class="none">not known yet</span>`
                  : `about ${duration(backlog.secondsUntilDone)}`
            }
          <//>
          <${Fact} name="Waiting longest since">
            <${Time} at=${oldestQueuedAt} none="nothing waits" />
          <//>
          <${Fact} name="Checked again for what comes late">${plural(transcriptsPending, 'archived session')}<//>
        </dl>
      </section>
      <section aria-labelledby="rate">
        <h2 id="rate">Kore's rate limit</h2>
        ${stats.rateLimit ? html`<${Rate} rate=${stats.rateLimit} />` : html`<${Empty}>Not known here.<//>`}
      </section>
      <section aria-labelledby="dependencies">
        <h2 id="dependencies">What it depends on</h2>
        <${Breakers} breakers=${stats.breakers} />
      </section>
    </div>
    <section aria-labelledby="workers">
      <h2 id="workers">Workers</h2>
      <${Workers} workers=${stats.workers} />
    </section>
  `;
}

/** @param {{ rate: RateLimit }} props */
function Rate({ rate: { limit, windowSeconds, used, limitedUntil } }) {
  return html`
    <p>${number(used)} of ${plural(limit, 'call')} in ${duration(windowSeconds)} used.</p>
    <meter
      aria-label="Calls used"
      min="0"
      max=${limit}
      high=${limit * 0.9}
      optimum="0"
      value=${Math.min(used, limit)}
    ></meter>
    ${limitedUntil ? html`<p>Kore has asked to wait until <${Time} at=${limitedUntil} />.</p>` : ''}
  `;
}

/** @param {{ breakers: readonly BreakerView[] | undefined }} props */
function Breakers({ breakers = [] }) {
  if (breakers.length === 0) return html`<${Empty}>Nothing is known to be unavailable.<//>`;
  return html`<ul class="breakers">
    ${breakers.map(
      ({ dependency, state, since, code, reason }) => html`<li>
        <span class="dot ${state === 'open' ? 'trouble' : 'ok'}" aria-hidden="true"></span>
        <span>
          <strong>${dependencyName(dependency)}</strong>${' '}
          ${state === 'open' ? html`is unavailable since <${Time} at=${since} none="a while" />` : 'can be reached'}
          ${reason ? html`<br /><span class="hint">${reason}</span>` : ''}
          ${code ? html` <code>${code}</code>` : ''}
        </span>
      </li>`,
    )}
  </ul>`;
}

/** @param {{ workers: readonly WorkerView[] }} props */
function Workers({ workers }) {
  if (workers.length === 0) return html`<${Empty}>No worker is alive: start one, or nothing is archived.<//>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-labelledby="workers"><table>
    <thead>
      <tr>
        <th scope="col">Host</th><th scope="col">Process</th><th scope="col">Version</th>
        <th scope="col" class="number">In progress</th><th scope="col">Started</th><th scope="col">Seen</th>
      </tr>
    </thead>
    <tbody>
      ${workers.map(
        (worker) => html`<tr key=${worker.id}>
          <th scope="row">${worker.host}</th>
          <td>${worker.pid}</td>
          <td>${worker.version}</td>
          <td class="number">${number(worker.active)} of ${number(worker.concurrency)}</td>
          <td><${Time} at=${worker.startedAt} /></td>
          <td><${Time} at=${worker.seenAt} /></td>
        </tr>`,
      )}
    </tbody>
  </table></div>`;
}
