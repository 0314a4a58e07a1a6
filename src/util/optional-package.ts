/** A package that this installation was made without is needed. `message` says how to install it. */
export class PackageMissingError extends Error {
  /** `@electric-sql/pglite` */
  readonly packageName: string;

  constructor(packageName: string, options?: ErrorOptions) {
    super(
      `the package ${packageName} is not installed: run "npm install ${packageName}", or build the image with its optional packages`,
      options,
    );
    this.name = 'PackageMissingError';
    this.packageName = packageName;
  }
}

/**
 * Loads a package of `optionalDependencies`, which `npm ci --omit=optional` leaves out.
 *
 * @example
 * const { PGlite } = await importOptional('@electric-sql/pglite', () => import('@electric-sql/pglite'));
 * @throws PackageMissingError where it is not installed.
 */
export async function importOptional<T>(packageName: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    // Not for what the package itself fails to find: that is a fault of it.
    const isMissing =
      error instanceof Error &&
      'code' in error &&
      error.code === 'ERR_MODULE_NOT_FOUND' &&
      error.message.includes(`'${packageName}'`);
    throw isMissing ? new PackageMissingError(packageName, { cause: error }) : error;
  }
}
