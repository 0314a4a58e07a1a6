/** The `code` of what is no failure. A label without a value would be the same as no label. */
export const NO_CODE = 'none';
