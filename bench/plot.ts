/** Bar charts as SVG, readable on light and on dark pages. */

/** What a chart shows. */
export interface Chart {
  readonly title: string;
  /** Below the bars, a line each. */
  readonly notes: readonly string[];
  readonly bars: readonly { readonly label: string; readonly value: number }[];
}

const WIDTH = 720;
const ROW = 46;
const TOP = 44;
const LEFT = 16;
const LINE = 16;
/** What is left of the width for the value behind the longest bar. */
const LONGEST = WIDTH - LEFT - 80;

/** A chart of horizontal bars; the first one is the one that it is about. */
export function barChart({ title, notes, bars }: Chart): string {
  const most = Math.max(...bars.map(({ value }) => value));
  const height = TOP + bars.length * ROW + notes.length * LINE + 12;
  const rows = bars.map(({ label, value }, index) => {
    const y = TOP + index * ROW;
    const width = ((value / most) * LONGEST).toFixed(1);
    return (
      `<text x="${LEFT}" y="${y + 10}">${escaped(label)}</text>` +
      `<rect x="${LEFT}" y="${y + 16}" width="${width}" height="16" rx="2" fill="${index === 0 ? '#2563eb' : '#94a3b8'}"/>` +
      `<text x="${LEFT + Number(width) + 8}" y="${y + 29}" font-weight="bold">${value.toFixed(2)}</text>`
    );
  });
  const lines = notes.map((note, index) => {
    const y = TOP + bars.length * ROW + (index + 1) * LINE;
    return `<text x="${LEFT}" y="${y}" font-size="11" opacity="0.75">${escaped(note)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(title)}">`,
    '<style>text{font:13px sans-serif;fill:#1f2937}@media(prefers-color-scheme:dark){text{fill:#e5e7eb}}</style>',
    `<text x="${LEFT}" y="24" font-size="15" font-weight="bold">${escaped(title)}</text>`,
    ...rows,
    ...lines,
    '</svg>',
    '',
  ].join('\n');
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
