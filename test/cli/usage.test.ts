import { describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.ts';
import { runInProcess } from '../support/in-process-command.ts';

const KORE = {
  KORE_HOST: 'kore.example',
  KORE_BOT_ID: 'st-1',
  KORE_CLIENT_ID: 'cs-1',
  KORE_CLIENT_SECRET: 'a-client-secret',
};

describe.concurrent('the program', () => {
  it.each<[string, string[], RegExp]>([
    ['without a command', [], /Usage: voicemail-archiver/],
    ['with an unknown command', ['arkive'], /unknown command 'arkive'/],
    ['with an unknown option', ['status', '--jason'], /unknown option '--jason'.*--json/s],
    ['with a list state that is none', ['status', '--state', 'lost'], /--state.*queued, active, waiting/s],
    ['with a limit that is none', ['status', '--limit', 'many'], /--limit.*whole number/s],
    ['with ids and a filter', ['status', 'a', '--state', 'failed'], /either ids, or --state/],
    ['with an id that is none', ['enqueue', 'a b'], /'a b' is invalid.*1 to 128/s],
    ['with nothing to enqueue', ['enqueue'], /--file/],
    ['with ids and a file', ['enqueue', 'a', '--file', 'x'], /either ids or --file/],
    [
      'with a file that is not there',
      ['enqueue', '--file', 'no-such-file'],
      /--file no-such-file cannot be read/,
    ],
    ['with nothing to retry', ['retry'], /--all or --code/],
    ['with an error code that is none', ['retry', '--code', 'NOPE'], /--code.*KORE_UNAUTHORIZED/s],
    ['with a port that is none', ['sandbox', '--port', '70000'], /--port.*0 to 65535/s],
  ])('%s ends with 2 and says what is wrong', async (_name, args, message) => {
    const { code, stdout, stderr } = await runInProcess(args);

    expect(stderr).toMatch(message);
    expect([code, stdout]).toEqual([2, '']);
  });

  it.each([
    ['an id', ['enqueue', 'a\u001b[2Jb\u009b1m']],
    ['a time', ['verify', '--from', '\u001b]0;title\u0007']],
    ['a command', ['\u001b[31mstart']],
  ])('the program quotes %s without control characters', async (_what, args) => {
    const { code, stderr } = await runInProcess(args);

    expect(code).toBe(2);
    expect(stderr).toContain('\ufffd');
    expect(stderr).not.toMatch(/[^\P{Cc}\n]/u);
  });

  it('the program suggests the right name of a misspelt variable, before it uses a default', async () => {
    const { code, stdout, stderr } = await runInProcess(['start'], {
      env: { ...KORE, ARCHIVE_URI: 's3://voicemails' },
    });

    expect(stderr).toMatch(/ARCHIVE_URI: is not known: did you mean ARCHIVE_URL\?/);
    expect([code, stdout]).toEqual([2, '']);
  });

  it('the program names every fault of the configuration in one message, and ends with 2', async () => {
    const { code, stdout, stderr } = await runCli(['start'], {
      env: {
        KORE_HOST: 'ftp://kore.example',
        KORE_CLIENT_SECRET: 'a-client-secret',
        QUEUE_URL: 'mysql://user:a-queue-password@db/queue',
        WORKER_CONCURRENCY: 'many',
        POLL_DELAY: '30',
        HTTP_HOST: '0.0.0.0',
        LOG_LEVEL: 'loud',
      },
    });

    const faulty = stderr.split('\n').flatMap((line) => /^ {2}(\w+): /.exec(line)?.[1] ?? []);
    expect(faulty.sort()).toEqual([
      'HTTP_HOST',
      'KORE_BOT_ID',
      'KORE_CLIENT_ID',
      'KORE_HOST',
      'LOG_LEVEL',
      'POLL_DELAY',
      'QUEUE_URL',
      'WORKER_CONCURRENCY',
    ]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).not.toContain('a-client-secret');
    expect(stderr).not.toContain('a-queue-password');
  });

  it.each(['worker', 'api'])('%s asks for a queue that can be shared', async (command) => {
    const { code, stderr } = await runInProcess([command], { env: KORE });

    expect(code).toBe(2);
    expect(stderr).toMatch(/QUEUE_URL: .*embedded/);
  });

  it('the program says without a stack trace that the queue cannot be reached, and ends with 1', async () => {
    const { code, stdout, stderr } = await runInProcess(['status'], {
      env: { ...KORE, QUEUE_URL: 'redis://user:a-queue-password@127.0.0.1:1' },
    });

    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^error: cannot reach the queue at redis:\/\/127\.0\.0\.1:1.*QUEUE_URL/m);
    expect(stderr).not.toMatch(/^ +at /m);
    expect(stderr).not.toContain('a-queue-password');
  });

  it.each(['start', 'worker', 'api', 'enqueue', 'status', 'retry', 'sandbox', 'demo'])(
    'the program explains %s with an example',
    async (command) => {
      const { code, stdout, stderr } = await runInProcess([command, '--help']);

      expect([code, stderr]).toEqual([0, '']);
      expect(stdout).toContain(`Usage: voicemail-archiver ${command}`);
      expect(stdout.slice(stdout.indexOf('Example'))).toContain(`voicemail-archiver ${command}`);
    },
  );

  it('the program prints its version', async () => {
    const { code, stdout } = await runCli(['--version']);

    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});
