#!/usr/bin/env node

/** The program's entry: checks that this Node can run it before anything else is loaded. */

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(
    `voicemail-archiver needs Node.js 22.19 or newer, and this is ${process.versions.node}: install a newer one from https://nodejs.org\n`,
  );
  process.exitCode = 1;
} else {
  const { run } = await import('./cli/run.ts');
  await run(process);
}
