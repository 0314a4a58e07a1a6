/** `npm run docs:config`: writes .env.example from the table of variables. */

import { writeFileSync } from 'node:fs';
import { VARIABLE_GROUPS, type Variable } from '../src/config/variables.ts';

const PATH = new URL('../.env.example', import.meta.url);
const WIDTH = 118;

const HEAD = `# Settings of the Voicemail Archiver: copy this to .env and take the "#" away before what you set. A value that stands here
# behind a "#" is the default where there is one, otherwise an example. docs/configuration.md says more.
# Written by "npm run docs:config" from src/config/variables.ts: change it there.
`;

/** The whole file. */
export function envExample(): string {
  return (
    HEAD +
    VARIABLE_GROUPS.map(({ title, variables }) => `\n## ${title}\n${variables.map(entry).join('')}`).join('')
  );
}

function entry({ name, standard, example, isSecret, meaning }: Variable): string {
  const words = `${plain(meaning)}${isSecret ? `. Secret: or ${name}_FILE, the path of a file` : ''}`.split(
    ' ',
  );
  const lines: string[] = [];
  for (const word of words) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + word.length < WIDTH) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(`# ${word}`);
  }
  return `\n${lines.join('\n')}\n#${name}=${quoted(standard ?? example)}\n`;
}

/** Without what only Markdown needs. */
function plain(markdown: string): string {
  return markdown
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replaceAll('`', '')
    .replaceAll('\\|', '|');
}

/** As readers of .env files take it, "#" and blanks included. */
function quoted(value: string): string {
  if (/^[\w./:@,+-]*$/.test(value)) return value;
  const quote = value.includes("'") ? '"' : "'";
  return `${quote}${value}${quote}`;
}

if (import.meta.main) writeFileSync(PATH, envExample());
