/** What a container gets of the image, and what an image of this program has to say of itself. */

import type { Instruction } from './dockerfile.ts';

/** How containers of the image are run, as `docker image inspect` would tell it. */
export interface ImageConfig {
  readonly user: string;
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly volumes: readonly string[];
  readonly ports: readonly number[];
  /** Programs and their arguments; empty where they are not in the exec form. */
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** Times as they are written. */
  readonly health: {
    readonly options: Readonly<Record<string, string>>;
    readonly command: readonly string[];
  };
}

/** What is compared with the image. */
export interface PackageFacts {
  readonly version: string;
  readonly license: string;
  /** The names of its commands. */
  readonly bin: Readonly<Record<string, string>>;
}

/** The directories that Debian's images look for programs in. */
export const IMAGE_PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** The configuration of the image that a Dockerfile makes, which is its last stage. */
export function imageConfig(instructions: readonly Instruction[]): ImageConfig {
  const from = instructions.findLastIndex(({ name }) => name === 'FROM');
  const stage = instructions.slice(from + 1);
  const arguments_ = assignments(stage, 'ARG');
  const last = (wanted: string) => stage.findLast(({ name }) => name === wanted)?.text ?? '';
  const [, options = '', check = ''] = /^(.*?)\s*CMD (.*)$/.exec(last('HEALTHCHECK')) ?? [];
  return {
    user: last('USER'),
    directory: last('WORKDIR'),
    environment: assignments(stage, 'ENV'),
    labels: Object.fromEntries(
      Object.entries(assignments(stage, 'LABEL')).map(([name, value]) => [
        name,
        value.replaceAll(/\$\{?(\w+)\}?/g, (_, variable: string) => arguments_[variable] ?? ''),
      ]),
    ),
    volumes: stage.filter(({ name }) => name === 'VOLUME').flatMap(({ text }) => text.split(/\s+/)),
    ports: stage.filter(({ name }) => name === 'EXPOSE').flatMap(({ text }) => text.split(/\s+/).map(Number)),
    entrypoint: execForm(last('ENTRYPOINT')),
    command: execForm(last('CMD')),
    health: {
      options: Object.fromEntries(
        [...options.matchAll(/--([\w-]+)=(\S+)/g)].map(([, name = '', value = '']) => [name, value]),
      ),
      command: execForm(check),
    },
  };
}

/** What is not as it should be in an image of this program, a line for each. */
export function faultsOfConfig(config: ImageConfig, facts: PackageFacts): string[] {
  const { user, directory, environment, labels, volumes, ports, entrypoint, command, health } = config;
  const label = (name: string) => labels[`org.opencontainers.image.${name}`] ?? '';
  const checks: readonly (readonly [isRight: boolean, fault: string])[] = [
    [
      /^[1-9]\d*:[1-9]\d*$/.test(user),
      `USER is "${user}", and not the numbers of a user and a group but root`,
    ],
    [label('title') !== '' && label('description') !== '', 'the labels title and description say nothing'],
    [label('licenses') === facts.license, `the label licenses is "${label('licenses')}"`],
    [label('version') === facts.version, `the label version is "${label('version')}"`],
    [label('revision') !== '', 'the label revision is empty without the argument REVISION'],
    [environment.NODE_ENV === 'production', 'NODE_ENV is not production'],
    [environment.REQUIRE_STORAGE === 'true', 'REQUIRE_STORAGE is not true'],
    [
      Object.keys(environment).every((name) => !/SECRET|TOKEN|PASSWORD|KEY/.test(name)),
      'ENV holds what looks like a secret',
    ],
    [volumes.includes(directory), `WORKDIR "${directory}" is no VOLUME`],
    [ports.length === 1 && ports[0] === 8080, 'EXPOSE is not the default of HTTP_PORT'],
    // Otherwise a shell stands between the program and its signals.
    [entrypoint.length > 0 && command.length > 0, 'ENTRYPOINT or CMD is not in the exec form'],
    [health.command.length > 0, 'there is no HEALTHCHECK in the exec form'],
    ...['interval', 'timeout', 'start-period', 'retries'].map(
      (name) => [name in health.options, `HEALTHCHECK has no --${name}`] as const,
    ),
  ];
  return checks.filter(([isRight]) => !isRight).map(([, fault]) => fault);
}

/** `NAME=value` and `NAME="a value"`, of all instructions of a kind. */
function assignments(instructions: readonly Instruction[], kind: string): Record<string, string> {
  const found = instructions
    .filter(({ name }) => name === kind)
    .flatMap(({ text }) => [...text.matchAll(/([\w.]+)=(?:"([^"]*)"|(\S*))/g)]);
  return Object.fromEntries(
    found.map(([, name = '', quoted, plain]) => [name, quoted ?? plain ?? ''] as const),
  );
}

function execForm(text: string): string[] {
  return text.startsWith('[') ? (JSON.parse(text) as string[]) : [];
}
