import { once } from 'node:events';
import { Command, Option } from 'commander';
import type { Rate } from '../config/config.ts';
import { parseDuration, parseRate } from '../config/parsers.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { SessionSpec } from '../sandbox/spec.ts';
import type { CliContext } from './context.ts';
import { asArgument, jsonOption, parseIdArgument, wholeNumber } from './options.ts';
import { table } from './output.ts';

interface SandboxOptions {
  readonly host: string;
  readonly port: number;
  readonly botId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** Milliseconds. */
  readonly urlLifetime: number;
  readonly rateLimit?: Rate;
  readonly json?: boolean;
}

const DEFAULT_PORT = 8089;
/** The same in every run, so that a `.env` made for one fits the next; they open nothing but this stand-in. */
const BOT_ID = 'st-00000000-5a4d-4b0c-8000-000000000001';
const CLIENT_ID = 'cs-00000000-5a4d-4b0c-8000-000000000002';
const CLIENT_SECRET = 'sandbox-client-secret';

/** Sessions that behave in a way of their own, and what that is. */
const SPECIAL_SESSIONS: readonly { readonly does: string; readonly spec: SessionSpec }[] = [
  { does: 'is ready', spec: { transcription: 'Hello, please call me back.' } },
  { does: 'is not ready the first two times', spec: { notReadyPolls: 2, transcription: 'It took a while.' } },
  {
    does: 'is requested while the call is still going on',
    spec: { statuses: ['call_in_progress', 'media_in_progress', 'success'], transcription: 'One moment.' },
  },
  {
    does: 'gets its transcript late',
    spec: { transcription: { texts: ['Better late than never.'], afterPolls: 2 } },
  },
  { does: 'has no transcript', spec: {} },
  {
    does: 'has three recordings, two of them with one name',
    spec: { recordings: [{ fileName: 'a.wav' }, { fileName: 'a.wav' }, { fileName: 'b.wav' }] },
  },
  {
    does: 'is cut three times while it is downloaded',
    spec: { recordings: [{ bytes: 4_000_000, mediaFaults: [{ breakAfterBytes: 900_000, times: 3 }] }] },
  },
  {
    does: 'has a URL that is expired when it is issued, twice',
    spec: { recordings: [{ lifetimeSeconds: [-10, -10, 300] }] },
  },
  {
    does: 'meets an outage and a rate limit',
    spec: { metadataFaults: [{ status: 503 }, { limit: '429-seconds' }] },
  },
  { does: 'has no recording and never will (fails)', spec: { statuses: ['media_unavailable'] } },
  {
    does: 'delivers a web page instead of audio (fails)',
    spec: { recordings: [{ mediaFaults: [{ page: 'html', times: Number.POSITIVE_INFINITY }] }] },
  },
];

/** `sandbox`: a stand-in for the Kore API. */
export function sandboxCommand(context: CliContext): Command {
  return new Command('sandbox')
    .description('Run a stand-in for the Kore API on this machine, for trying things out and for tests')
    .addOption(
      new Option('--port <n>', 'where it listens; 0 for any free port')
        .argParser(wholeNumber(0, 65_535))
        .default(DEFAULT_PORT),
    )
    .option('--host <address>', 'the address it listens on', '127.0.0.1')
    .addOption(new Option('--bot-id <id>', 'the bot it has').argParser(parseIdArgument).default(BOT_ID))
    .option('--client-id <id>', 'the app it knows', CLIENT_ID)
    .option('--client-secret <secret>', "that app's secret", CLIENT_SECRET)
    .addOption(
      new Option('--url-lifetime <time>', 'how long signed media URLs are good for')
        .argParser(asArgument(parseDuration))
        .default(300_000, '5m'),
    )
    .addOption(
      new Option('--rate-limit <rate>', 'calls it answers, as in 60/60s (default: any number)').argParser(
        asArgument(parseRate),
      ),
    )
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
It writes the environment variables to use it with, and some session ids that behave in special ways. Any other
id of 24 hex digits is an ordinary voicemail. It runs until SIGINT or SIGTERM, and logs requests to stderr.

Examples:
  $ voicemail-archiver sandbox
  $ voicemail-archiver sandbox --port 0 --url-lifetime 20s --rate-limit 60/60s --json
`,
    )
    .action((options: SandboxOptions) => serveSandbox(context, options));
}

async function serveSandbox(context: CliContext, options: SandboxOptions): Promise<void> {
  const stop = context.stopSignal();
  const { host, port, botId, clientId, clientSecret, urlLifetime, rateLimit } = options;
  const { startSandbox } = await import('../sandbox/sandbox.ts');
  const sandbox = await startSandbox({
    host,
    port,
    botId,
    clientId,
    clientSecret,
    urlLifetimeSeconds: urlLifetime / 1000,
    ...(rateLimit && { rateLimit }),
    autoSessions: true,
    log: (line) => context.say(`${line}\n`),
  });
  try {
    const sessions = SPECIAL_SESSIONS.map(({ does, spec }) => ({
      sessionId: sandbox.addSession(spec),
      does,
    }));
    const environment = environmentFor(sandbox, host);
    if (options.json) await context.out.json({ url: sandbox.url, environment, sessions });
    else await context.out.lines(startLines(sandbox, environment, sessions));
    if (!stop.aborted) await once(stop, 'abort');
  } finally {
    await sandbox.close();
  }
}

/** What to set for a worker that is to use the sandbox. */
function environmentFor(sandbox: Sandbox, host: string): Readonly<Record<string, string>> {
  return {
    KORE_HOST: sandbox.url,
    KORE_BOT_ID: sandbox.botId,
    KORE_CLIENT_ID: sandbox.clientId,
    KORE_CLIENT_SECRET: sandbox.clientSecret,
    KORE_ACCOUNT_ID: sandbox.accountId,
    KORE_ALLOW_PRIVATE_MEDIA: 'true',
    KORE_MEDIA_HOSTS: host,
  };
}

function startLines(
  sandbox: Sandbox,
  environment: Readonly<Record<string, string>>,
  sessions: readonly { readonly sessionId: string; readonly does: string }[],
): string[] {
  return [
    `# The sandbox listens on ${sandbox.url}. To use it, paste this into a shell or a .env file:`,
    ...Object.entries(environment).map(([name, value]) => `export ${name}=${value}`),
    '',
    '# Sessions to enqueue:',
    ...table(sessions.map(({ sessionId, does }) => [`# ${sessionId}`, does])),
    '# Any other id of 24 hex digits is an ordinary voicemail.',
  ];
}
