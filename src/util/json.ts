/** A JSON object of which nothing more is known. */
export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What a JSON text holds; `undefined`, which no JSON text holds, where it is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // JSON.parse's error quotes the text, which may hold signed URLs, so it goes no further.
    return undefined;
  }
}
/**
 * What a JSON pointer (RFC 6901) points to in a value that came out of JSON, or `undefined`.
 *
 * @param pointer a well-formed one: `/metaInfo/sessionId`, `/0/id`
 */
export function readPointer(value: unknown, pointer: string): unknown {
  let current = value;
  for (const token of pointer.split('/').slice(1)) {
    const key = token.replaceAll('~1', '/').replaceAll('~0', '~');
    // Own properties only: what every object inherits, and the length of a list, were not sent by anybody.
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, key)) return undefined;
    if (Array.isArray(current) && !/^(0|[1-9]\d*)$/.test(key)) return undefined;
    current = (current as Readonly<Record<string, unknown>>)[key];
  }
  return current;
}
