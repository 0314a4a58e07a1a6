/** The routes that a server has, to tell a wrong method on a known path from an unknown path. */
export class RouteTable {
  readonly #routes: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = [];

  /** @param url as Fastify has it: `/v1/sessions/:id`, `/docs/*`. */
  add(url: string, methods: string | readonly string[]): void {
    this.#routes.push({ pattern: patternOf(url), methods: [methods].flat() });
  }

  /** The methods that a path takes, in alphabetical order; none if there is no such path. */
  methodsOf(path: string): string[] {
    const found = this.#routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods);
    return [...new Set(found)].sort();
  }
}

function patternOf(url: string): RegExp {
  const source = url
    .split('/')
    .map((part) => {
      if (part.startsWith(':')) return '[^/]+';
      return part === '*' ? '.*' : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    })
    .join('/');
  return new RegExp(`^${source}$`);
}
