import { randomBytes } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { QueueConfig } from '../config/config.ts';
import { systemCode } from '../domain/errors.ts';
import { registerSecret } from '../util/redact.ts';

export const Owner = z.object({
  /** The process that holds the embedded queue. */
  pid: z.int().positive(),
  /** Where its API is. */
  url: z.url({ protocol: /^http$/ }),
  /** A bearer token for it, made for this one run. */
  token: z.string().min(1),
  /** The default bot of its configuration. */
  defaultBotId: z.string().exactOptional(),
});

/** How other commands reach the process that holds an embedded queue. */
export type Owner = z.infer<typeof Owner>;

/** The directory of an embedded queue; `undefined` for others, which need no owner. */
export function ownedDirectory({ target }: QueueConfig): string | undefined {
  return target.kind === 'embedded' ? target.directory : undefined;
}

/** A token for one run of a process. */
export function createLoopbackToken(): string {
  const token = randomBytes(32).toString('base64url');
  registerSecret(token);
  return token;
}

/** Publishes how to reach this process, for other commands of the same user only. */
export async function writeOwner(directory: string, owner: Owner): Promise<void> {
  const path = ownerPath(directory);
  const temporary = `${path}.${owner.pid}.tmp`;
  await rm(temporary, { force: true });
  // Readable by its owner from the first moment on, and never seen half-written.
  await writeFile(temporary, `${JSON.stringify(owner)}\n`, { mode: 0o600, flag: 'wx' });
  await rename(temporary, path);
}

/** The process that holds the queue, if it has said so; what it says may be outdated. */
export async function readOwner(directory: string): Promise<Owner | undefined> {
  let text: string;
  try {
    text = await readFile(ownerPath(directory), 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  const owner = Owner.safeParse(parseJson(text));
  if (!owner.success) return undefined;
  registerSecret(owner.data.token);
  return owner.data;
}

/** For the process that holds the queue: no other one does, even if the file says so. */
export async function removeOwner(directory: string): Promise<void> {
  await rm(ownerPath(directory), { force: true });
}

/** A file that a crash left empty or cut off says as little as none. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function ownerPath(directory: string): string {
  return join(directory, 'owner.json');
}
