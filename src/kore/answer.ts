/** One HTTP answer of Kore's API, read to its end, before anything is known about its meaning. */
export interface KoreAnswer {
  readonly status: number;
  /** Names in lowercase. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** The value of a header, the first one where it came several times. */
export function header(answer: KoreAnswer, name: string): string | undefined {
  const value = answer.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** Whether the status says success. The body may still say otherwise. */
export function isSuccess(answer: KoreAnswer): boolean {
  return answer.status >= 200 && answer.status < 300;
}
