import { ask } from '../api.js';
import { html } from '../html.js';
import { Action } from '../parts/action.js';
import { Empty, Heading, Loading, sentence, Trouble } from '../parts/common.js';
import { Link } from '../router.js';
import { number, plural } from '../time.js';
import { useData } from '../use-data.js';

/** @import { CodeMeaning, Stats } from '../api-types.js' */

const REFRESH_MS = 3_000;
/** How many failed sessions the API counts by code. */
const MAX_COUNTED = 10_000;

/** What failed, by code, what each means, and what fixes it. */
export function FailuresView() {
  const {
    data: stats,
    error,
    reload,
  } = /** @type {import('../use-data.js').Loaded<Stats>} */ (
    useData('/v1/stats', { everyMs: REFRESH_MS, on: ({ state }) => state === 'failed' || state === 'queued' })
  );
  const { data: meanings } =
    /** @type {import('../use-data.js').Loaded<{ codes: readonly CodeMeaning[] }>} */ (
      useData('/v1/error-codes')
    );
  return html`
    <${Heading} title="Failures" />
    ${
      error
        ? html`<${Trouble}
          error=${error}
          what="The failures could not be counted"
          hasOldData=${stats !== undefined}
          onRetry=${reload}
        />`
        : ''
    }
    ${
      stats
        ? html`<${Codes} stats=${stats} meanings=${meanings?.codes ?? []} reload=${reload} />`
        : error
          ? ''
          : html`<${Loading} />`
    }
  `;
}

/** @param {{ stats: Stats, meanings: readonly CodeMeaning[], reload: () => void }} props */
function Codes({ stats, meanings, reload }) {
  const { failuresByCode, states } = stats;
  const counts = Object.entries(failuresByCode).sort(([, a], [, b]) => b - a);
  if (counts.length === 0) {
    return html`<section><${Empty}>No session has failed. What waits is checked again by itself.<//></section>`;
  }
  return html`
    <p>
      ${plural(states.failed, 'session')} failed.${' '}
      ${states.failed > MAX_COUNTED ? html`<span class="hint">The latest ${number(MAX_COUNTED)} are counted by code.</span>` : ''}
    </p>
    ${counts.map(
      ([code, count]) =>
        html`<${Code}
        key=${code}
        code=${code}
        count=${count}
        meaning=${meanings.find((one) => one.code === code)}
        onRetried=${reload}
      />`,
    )}
  `;
}

/** @param {{ code: string, count: number, meaning: CodeMeaning | undefined, onRetried: () => void }} props */
function Code({ code, count, meaning, onRetried }) {
  const retry = async () => {
    const { retried } = /** @type {{ retried: number }} */ (
      await ask('/v1/sessions/retry', { method: 'POST', json: { code } })
    );
    onRetried();
    return `${plural(retried, 'session')} ${retried === 1 ? 'is' : 'are'} queued again.`;
  };
  const name = `code-${code}`;
  return html`<section aria-labelledby=${name}>
    <div class="row">
      <h2 id=${name}><code>${code}</code></h2>
      <${Link} to=${`/sessions?state=failed&code=${encodeURIComponent(code)}`}>
        ${plural(count, 'session')}<span class="hidden"> with ${code}</span>
      <//>
      <span class="end">
        <${Action}
          label=${`Retry all with ${code}`}
          permission="operate"
          question=${`All sessions that failed with ${code} are queued again.`}
          act=${retry}
        />
      </span>
    </div>
    ${
      meaning
        ? html`<dl>
          <div class="fact"><dt>What it means</dt><dd>${sentence(meaning.meaning)}</dd></div>
          <div class="fact"><dt>What fixes it</dt><dd>${sentence(meaning.fix)}</dd></div>
          <div class="fact">
            <dt>Trying again</dt>
            <dd>
              ${meaning.retryable ? 'can help by itself, as when an outage is over' : 'helps once what is behind it is fixed'}${
                meaning.waits === undefined
                  ? ''
                  : `; it was done ${meaning.waits === 'forever' ? 'all the time' : `for ${meaning.waits}`}`
              }
            </dd>
          </div>
        </dl>`
        : ''
    }
  </section>`;
}
