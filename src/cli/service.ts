import { Command } from 'commander';
import type { CliContext } from './context.ts';
import type { ServiceParts } from './run-service.ts';

/** `start`: API and worker in one process. */
export function startCommand(context: CliContext): Command {
  return new Command('start')
    .description('Run API and worker in one process; with the defaults it needs no server at all')
    .addHelpText(
      'after',
      `
It runs until SIGINT or SIGTERM, then lets running transfers finish (SHUTDOWN_GRACE); a second signal ends it at
once. Other commands find it by themselves and go through its API.

Examples:
  $ voicemail-archiver start
  $ QUEUE_URL=redis://localhost:6379 ARCHIVE_URL=s3://my-bucket/voicemail voicemail-archiver start
`,
    )
    .action(() => run(context, { api: true, worker: true, needs: ['kore', 'api'] }));
}

/** `worker`: a worker alone. */
export function workerCommand(context: CliContext): Command {
  return new Command('worker')
    .description('Run a worker alone, beside others on the same queue (needs a shared queue)')
    .addHelpText(
      'after',
      `
It serves /livez, /readyz and /metrics on HTTP_HOST and HTTP_PORT, and nothing else. Where HTTP_PORT is not set and
8080 is taken, it takes any free port, and names it in the log line "listening".

Examples:
  $ QUEUE_URL=redis://localhost:6379 WORKER_CONCURRENCY=32 voicemail-archiver worker
  $ QUEUE_URL=redis://redis:6379 HTTP_HOST=0.0.0.0 voicemail-archiver worker      (in a container)
`,
    )
    .action(() => run(context, { api: false, worker: true, needs: ['kore', 'shared-queue'] }));
}

/** `api`: the API alone. */
export function apiCommand(context: CliContext): Command {
  return new Command('api')
    .description('Run the HTTP API alone, beside workers on the same queue (needs a shared queue)')
    .addHelpText(
      'after',
      '\nExample:\n  $ QUEUE_URL=redis://localhost:6379 HTTP_PORT=8080 voicemail-archiver api\n',
    )
    .action(() => run(context, { api: true, worker: false, needs: ['api', 'shared-queue'] }));
}

/** What services are made of takes long to load, which other commands need not wait for. */
async function run(context: CliContext, roles: ServiceParts): Promise<void> {
  const { runService } = await import('./run-service.ts');
  await runService(context, roles);
}
