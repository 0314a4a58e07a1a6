import { type CheckResult, failed, ok } from './check.ts';

/** As `engines` in package.json says. */
const OLDEST = { major: 22, minor: 19 };

/** Whether this Node.js can run the program. @param version as in `process.versions.node`. */
export function checkNode(version: string): CheckResult {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const isNewEnough = major > OLDEST.major || (major === OLDEST.major && minor >= OLDEST.minor);
  const oldest = `${OLDEST.major}.${OLDEST.minor}`;
  return isNewEnough
    ? ok('node', `Node.js ${version}`)
    : failed('node', `Node.js ${version} is older than ${oldest}`, `install Node.js ${oldest} or newer`);
}
