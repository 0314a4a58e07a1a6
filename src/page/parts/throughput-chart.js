import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { html } from '../html.js';
import { clock } from '../time.js';

/** @import { Throughput } from '../api-types.js' */

const HEIGHT = 176;

/**
 * How many sessions were archived and failed in each minute.
 *
 * @param {{ minutes: readonly Throughput[] }} props
 */
export function ThroughputChart({ minutes }) {
  /** @type {{ current: HTMLDivElement | null }} */
  const place = useRef(null);
  /** @type {{ current: uPlot | undefined }} */
  const chart = useRef(undefined);
  const data = dataOf(minutes);

  useEffect(() => {
    const box = place.current;
    if (!box) return undefined;
    const draw = () => {
      chart.current?.destroy();
      chart.current = new uPlot(optionsOf(box), data, box);
    };
    draw();
    const resized = new ResizeObserver(() =>
      chart.current?.setSize({ width: box.clientWidth, height: HEIGHT }),
    );
    resized.observe(box);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', draw);
    return () => {
      scheme.removeEventListener('change', draw);
      resized.disconnect();
      chart.current?.destroy();
    };
  }, []);
  useEffect(() => chart.current?.setData(data), [data]);

  const busiest = minutes.reduce((most, one) => Math.max(most, one.archived + one.failed), 0);
  const [first] = minutes;
  const label =
    first === undefined
      ? 'Sessions by minute: nothing is known yet'
      : `Sessions by minute since ${clock(first.minute)}; at most ${busiest} in a minute`;
  return html`<div class="chart" role="img" aria-label=${label} ref=${place}></div>
    <p class="legend" aria-hidden="true"><span class="archived">archived</span><span class="failed">failed</span></p>`;
}

/**
 * @param {readonly Throughput[]} minutes
 * @returns {uPlot.AlignedData}
 */
function dataOf(minutes) {
  return [
    minutes.map(({ minute }) => Date.parse(minute) / 1_000),
    minutes.map(({ archived }) => archived),
    minutes.map(({ failed }) => failed),
  ];
}

/**
 * @param {HTMLElement} box
 * @returns {uPlot.Options}
 */
function optionsOf(box) {
  const style = getComputedStyle(box);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour('--text-soft'),
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { show: false },
    font: '12px system-ui, sans-serif',
  };
  const bars = uPlot.paths.bars?.({ size: [0.7, 16] });
  return {
    width: box.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, __, most) => [0, Math.max(4, most * 1.1)] } },
    axes: [
      { ...axis, size: 28, values: [[60, '{HH}:{mm}', null, null, null, null, null, null, 0]] },
      { ...axis, size: 48, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000] },
    ],
    series: [
      {},
      { fill: colour('--archived'), width: 0, points: { show: false }, ...(bars && { paths: bars }) },
      { fill: colour('--failed'), width: 0, points: { show: false }, ...(bars && { paths: bars }) },
    ],
  };
}
