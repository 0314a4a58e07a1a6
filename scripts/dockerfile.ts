/** An instruction of a Dockerfile: `RUN`, and what follows it on one line. */
export interface Instruction {
  readonly name: string;
  readonly text: string;
}

/**
 * The instructions of a Dockerfile, without comments and with continued lines joined. Here-documents are not read.
 * https://docs.docker.com/reference/dockerfile/
 */
export function readDockerfile(text: string): Instruction[] {
  return text
    .split('\n')
    .filter((line) => !/^\s*(#|$)/.test(line))
    .join('\n')
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .map((line) => {
      const [, name = '', rest = ''] = /^(\S+)\s+(.*)$/.exec(line) ?? [];
      return { name: name.toUpperCase(), text: rest };
    });
}
