/** What containers get, next to what docs/operations.md says that they need. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { loadConfig } from '../../src/config/load.ts';
import { readCompose, serviceOf } from '../support/compose.ts';

const ROOT = join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8');
const MB = 1e6;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

const sizing =
  /\n## Sizing\n(.*?)\n## /s.exec(read('docs/operations.md'))?.[1]?.replaceAll(/\s+/g, ' ') ?? '';
/** A figure of the section on sizing. */
function documented(pattern: RegExp): number {
  const found = pattern.exec(sizing)?.[1];
  if (found === undefined) throw new Error(`docs/operations.md no longer says ${pattern}`);
  return Number(found);
}
const worker = {
  idleMb: documented(/Memory of a worker:\*\* (\d+) MB when idle/),
  usualMb: documented(/(\d+) MB at 16 sessions at a time/),
  mostMb: documented(/(\d+) MB at 64 recordings of 64 MB/),
  limitMib: documented(/Give it (\d+) MiB, and what you add to `TRANSFER_MEMORY` on top/),
  transferMib: documented(/`TRANSFER_MEMORY` \((\d+) MiB\) bounds what is held/),
};
const api = {
  idleMb: documented(/An API takes about (\d+) MB/),
  limitMib: documented(/An API takes about \d+ MB; (\d+) MiB is plenty/),
};

/** Bytes of a quantity as Kubernetes, Docker, Redis and systemd write it, each with its own letters for powers of 1024. */
function bytesOf(quantity: string): number {
  const [, number, unit = ''] = /^(\d+)(Mi|M|mb|Gi|G|gb)$/.exec(quantity) ?? [];
  if (number === undefined) throw new Error(`${quantity} is no size in megabytes or gigabytes`);
  return Number(number) * (unit.toLowerCase().startsWith('g') ? GIB : MIB);
}

/** What a worker may take, by the documentation, where it holds as much audio as these variables let it. */
function limitFor(environment: Readonly<Record<string, string>>): number {
  const { transferMemoryBytes } = loadConfig(environment, { needs: [] }).work;
  return worker.limitMib * MIB + Math.max(0, transferMemoryBytes - worker.transferMib * MIB);
}

const Deployment = z.looseObject({
  kind: z.literal('Deployment'),
  spec: z.looseObject({
    template: z.looseObject({
      spec: z.looseObject({
        containers: z.tuple([
          z.looseObject({
            resources: z.strictObject({
              requests: z.strictObject({ cpu: z.string(), memory: z.string() }),
              limits: z.strictObject({ memory: z.string() }),
            }),
          }),
        ]),
      }),
    }),
  }),
});

/** Those of the only container of a Deployment. */
function resourcesOf(file: string): { request: number; limit: number } {
  const [first] = parseAllDocuments(read(file));
  const { containers } = Deployment.parse(first?.toJS()).spec.template.spec;
  const { requests, limits } = containers[0].resources;
  return { request: bytesOf(requests.memory), limit: bytesOf(limits.memory) };
}

/** Variables of a ConfigMap. */
const configured = Object.fromEntries(
  read('deploy/k8s/base/config.env')
    .trim()
    .split('\n')
    .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
);

describe('memory', () => {
  it('of a worker as documented holds what was measured, with the default of TRANSFER_MEMORY', () => {
    expect(worker.idleMb).toBeLessThan(worker.usualMb);
    expect(worker.usualMb).toBeLessThan(worker.mostMb);
    expect(worker.mostMb * MB).toBeLessThan(worker.limitMib * MIB);
    expect(loadConfig({}, { needs: [] }).work.transferMemoryBytes).toBe(worker.transferMib * MIB);
    expect(limitFor({ TRANSFER_MEMORY: '1GiB' })).toBe((worker.limitMib + 768) * MIB);
  });

  it('on Kubernetes is asked for as sessions take it, and bounded as documented', () => {
    const ofWorker = resourcesOf('deploy/k8s/base/worker.yaml');
    expect(ofWorker.request).toBeGreaterThan(worker.usualMb * MB);
    expect(ofWorker.limit).toBeGreaterThanOrEqual(limitFor(configured));
    const ofApi = resourcesOf('deploy/k8s/base/api.yaml');
    expect(ofApi.request).toBeGreaterThan(api.idleMb * MB);
    expect(ofApi.limit).toBeGreaterThanOrEqual(api.limitMib * MIB);
    // The comment that repeats the figures.
    const comment = read('deploy/k8s/base/worker.yaml').replaceAll(/\s+#?\s*/g, ' ');
    for (const figure of [
      `${worker.idleMb} MB when idle`,
      `${worker.usualMb} MB at 16 sessions at a time`,
      `${worker.mostMb} MB at 64 recordings of 64 MB`,
    ]) {
      expect(comment).toContain(` ${figure}`);
    }
  });

  it('in Compose is bounded as documented', () => {
    const compose = readCompose();
    const limitOf = (name: string) => bytesOf(serviceOf(compose, name).deploy.resources.limits.memory ?? '');

    expect(limitOf('worker')).toBeGreaterThanOrEqual(
      limitFor({ TRANSFER_MEMORY: serviceOf(compose, 'worker').environment?.TRANSFER_MEMORY ?? '' }),
    );
    expect(limitOf('api')).toBeGreaterThanOrEqual(api.limitMib * MIB);
    // While Redis writes its append-only file anew, pages that change are held twice.
    const command = serviceOf(compose, 'redis').command ?? [];
    const most = bytesOf(command[command.indexOf('--maxmemory') + 1] ?? '');
    expect(most).toBeLessThanOrEqual(0.75 * limitOf('redis'));
  });

  it('of the systemd unit, which runs API and worker in one process, is that of both', () => {
    const [, limit = ''] = /^MemoryMax=(.*)$/m.exec(read('deploy/systemd/voicemail-archiver.service')) ?? [];

    expect(bytesOf(limit)).toBeGreaterThanOrEqual(limitFor({}) + api.limitMib * MIB);
  });
});
