import { Command } from 'commander';
import type { CheckResult, CheckStatus } from '../doctor/check.ts';
import { redact } from '../util/redact.ts';
import { type CliContext, CommandFailed } from './context.ts';
import { jsonOption } from './options.ts';
import { count } from './output.ts';
import { readOwner } from './owner.ts';

/** As wide as the longest status and the longest name of a check. */
const STATUS_WIDTH = 'warning'.length;
const NAME_WIDTH = 'archive overwrites'.length;

/** `doctor`: everything that archiving depends on, and what to fix. */
export function doctorCommand(context: CliContext): Command {
  return new Command('doctor')
    .description('Check configuration, queue, archive and Kore credentials, and say what to fix')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Each line is ok, warning, failed or skipped; what has to be done follows as "fix". It makes a call or two to Kore
(for a session that does not exist), writes a key or a schema to the queue's server and small objects to the archive
(in directories _doctor-... and _doctor_erase-...), and takes all of it back. Nothing that is queued or archived is touched, and no secret is written.

The exit code is 1 when a check failed, a fault of the configuration included; warnings do not count.

Examples:
  $ voicemail-archiver doctor
  $ voicemail-archiver doctor --json
`,
    )
    .action((options: { readonly json?: boolean }) => examine(context, options));
}

async function examine(context: CliContext, options: { readonly json?: boolean }): Promise<void> {
  const { environment, out } = context;
  const { runDoctor } = await import('../doctor/doctor.ts');
  const results: CheckResult[] = [];
  const checks = runDoctor(
    { environment, nodeVersion: process.versions.node, findHolder: readOwner },
    context.stopSignal(),
  );
  for await (const check of checks) {
    const result = cleaned(check);
    results.push(result);
    if (!options.json) await out.lines(say(result));
  }
  const failures = results.filter(({ status }) => status === 'failed').length;
  if (options.json) await out.json({ ok: failures === 0, checks: results });
  if (failures > 0) throw new CommandFailed(`${count(failures, 'check')} of ${results.length} failed`);
}

/** Texts of servers pass through here, and may hold anything. */
function cleaned({ name, status, message, fix }: CheckResult): CheckResult {
  return { name, status, message: clean(message), ...(fix !== undefined && { fix: clean(fix) }) };
}

/** On one line, and without what a terminal would take for a command. */
function clean(text: string): string {
  return redact(text).replace(/\p{Cc}+/gu, ' ');
}

function say({ name, status, message, fix }: CheckResult): string[] {
  const line = `${pad(status)} ${name.padEnd(NAME_WIDTH)} ${message}`;
  return fix === undefined ? [line] : [line, `  fix: ${fix}`];
}

function pad(status: CheckStatus): string {
  return status.padEnd(STATUS_WIDTH);
}
