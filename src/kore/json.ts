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
