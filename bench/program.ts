import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Message, Order } from './messages.ts';

/** Node's options for all measured programs, as in the image: see docs/performance.md. */
export const NODE_ARGS: readonly string[] = ['--max-semi-space-size=8'];

/** A program of the bench in a process of its own. */
export interface Program {
  send(order: Order): void;
  /** The next message of that kind. @throws when the program ends before it comes. */
  receive<Kind extends Message['kind']>(kind: Kind): Promise<Extract<Message, { kind: Kind }>>;
  /** Ends it. */
  stop(): Promise<void>;
}

/** How a program is started. */
export interface ProgramOptions {
  readonly args?: readonly string[];
  /** All of its environment: what the machine's own holds is not to change the figures. */
  readonly env?: Readonly<Record<string, string>>;
  /** For Node itself. */
  readonly nodeArgs?: readonly string[];
  /** Where the compiled programs are; without it, the source is run. */
  readonly compiled?: URL;
}

/** Starts a program, named by its path from this directory. What it logs above `info` is passed on to stderr. */
export function startProgram(path: string, options: ProgramOptions = {}): Program {
  const { compiled } = options;
  const file = compiled ? new URL(path.replace(/ts$/, 'js'), compiled) : new URL(path, import.meta.url);
  const child = fork(fileURLToPath(file), [...(options.args ?? [])], {
    env: { ...options.env },
    execArgv: [...(options.nodeArgs ?? [])],
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
  });
  const inbox: Message[] = [];
  const waiting = new Set<() => void>();
  let ended: Error | undefined;
  const wake = () => {
    for (const checkInbox of waiting) checkInbox();
  };
  child.on('message', (message: Message) => {
    inbox.push(message);
    wake();
  });
  const exited = once(child, 'exit').then(([code, signal]) => {
    ended = new Error(`${path} ended (${code ?? signal})`);
    wake();
  });
  if (child.stderr) {
    createInterface(child.stderr).on('line', (line) => {
      if (!line.startsWith('{"level":"info"')) process.stderr.write(`${path}: ${line}\n`);
    });
  }

  return {
    send: (order) => void child.send(order),
    async receive(kind) {
      type Wanted = Extract<Message, { kind: typeof kind }>;
      const { promise, resolve, reject } = Promise.withResolvers<Wanted>();
      const checkInbox = () => {
        const index = inbox.findIndex((message) => message.kind === kind);
        const [message] = index === -1 ? [] : inbox.splice(index, 1);
        if (message) resolve(message as Wanted);
        else if (ended) reject(ended);
      };
      waiting.add(checkInbox);
      checkInbox();
      try {
        return await promise;
      } finally {
        waiting.delete(checkInbox);
      }
    },
    async stop() {
      if (child.connected) child.send({ kind: 'stop' } satisfies Order);
      await exited;
    },
  };
}
