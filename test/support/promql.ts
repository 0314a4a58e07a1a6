/** What a query reads. */
export interface Selector {
  readonly metric: string;
  readonly matchers: readonly Matcher[];
  /** Whether it asks for a time range, as counters want it: `metric[5m]`. */
  readonly hasRange: boolean;
  /** The aggregations and functions it stands in, the innermost first. */
  readonly within: readonly string[];
}

export interface Matcher {
  readonly label: string;
  readonly op: '=' | '!=' | '=~' | '!~';
  readonly value: string;
}

/** An aggregation's `by (...)`, with what it aggregates. */
export interface Grouping {
  readonly labels: readonly string[];
  readonly selectors: readonly Selector[];
}

/** What {@link readPromql} finds in a query. */
export interface Promql {
  readonly selectors: readonly Selector[];
  readonly groupings: readonly Grouping[];
}

const TOKEN =
  /\s*("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[A-Za-z_:][\w:]*|\d[\d.]*(?:e[-+]?\d+)?[a-z]*|=~|!~|!=|==|>=|<=|[-+*/%^<>=(){},])/y;
const AGGREGATIONS = ['sum', 'min', 'max', 'avg', 'count', 'topk', 'bottomk', 'quantile', 'stddev', 'group'];
const LABEL_LISTS = ['on', 'ignoring', 'group_left', 'group_right'];
const OPERATORS = ['and', 'or', 'unless', 'bool'];
const MATCHER_OPS: readonly string[] = ['=', '!=', '=~', '!~'];

/**
 * Reads from a query what it reads: its selectors and groupings. It knows as much of PromQL as dashboards and
 * rules use here, and refuses what it does not know, `without` and `sum(...) by (...)` among it.
 */
export function readPromql(query: string): Promql {
  const tokens = tokenize(query);
  const groupings: Grouping[] = [];
  let at = 0;
  const peek = () => tokens[at] ?? '';
  const take = () => tokens[at++] ?? refuse('it ends early');
  const expect = (token: string) => take() === token || refuse(`there is no "${token}" where one is due`);
  const refuse = (why: string): never => {
    throw new Error(`cannot read the query "${query}": ${why} (after "${tokens.slice(0, at).join(' ')}")`);
  };

  function labelList(): string[] {
    const labels: string[] = [];
    expect('(');
    while (peek() !== ')') {
      labels.push(take());
      if (peek() === ',') take();
    }
    expect(')');
    return labels;
  }

  function grouping(): string[] {
    if (peek() !== 'by') return [];
    take();
    return labelList();
  }

  function matchers(): Matcher[] {
    const found: Matcher[] = [];
    if (peek() !== '{') return found;
    take();
    while (peek() !== '}') {
      const [label, op, value] = [take(), take(), take()];
      if (!MATCHER_OPS.includes(op) || !value.startsWith('"')) refuse('there is a strange matcher');
      found.push({ label, op: op as Matcher['op'], value: JSON.parse(value) as string });
      if (peek() === ',') take();
    }
    expect('}');
    return found;
  }

  /** Reads up to a closing parenthesis or the end. */
  function expression(within: readonly string[]): Selector[] {
    const selectors: Selector[] = [];
    while (at < tokens.length && peek() !== ')') {
      const token = take();
      if (token === '(') {
        selectors.push(...expression(within));
        expect(')');
      } else if (LABEL_LISTS.includes(token)) {
        labelList();
      } else if (AGGREGATIONS.includes(token)) {
        const labels = grouping();
        expect('(');
        const inner = expression([token, ...within]);
        expect(')');
        groupings.push({ labels, selectors: inner });
        selectors.push(...inner);
      } else if (token === 'by' || token === 'without') {
        refuse('write "by" right after the aggregation, and no "without"');
      } else if (/^[A-Za-z_:]/.test(token) && !OPERATORS.includes(token)) {
        if (peek() === '(') {
          take();
          selectors.push(...expression([token, ...within]));
          expect(')');
        } else {
          const found = { metric: token, matchers: matchers(), within };
          const hasRange = peek().startsWith('[');
          if (hasRange) take();
          selectors.push({ ...found, hasRange });
        }
      }
    }
    return selectors;
  }

  const selectors = expression([]);
  if (at < tokens.length) refuse('there is a parenthesis too many');
  return { selectors, groupings };
}

/** Whether a series has what a matcher asks for. A label that is not there counts as empty. */
export function matches({ op, value }: Matcher, given: string): boolean {
  switch (op) {
    case '=':
      return given === value;
    case '!=':
      return given !== value;
    case '=~':
      return new RegExp(`^(?:${value})$`).test(given);
    case '!~':
      return !new RegExp(`^(?:${value})$`).test(given);
  }
}

function tokenize(query: string): string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  const text = query.trimEnd();
  while (TOKEN.lastIndex < text.length) {
    const from = TOKEN.lastIndex;
    const token = TOKEN.exec(text)?.[1];
    if (token === undefined) throw new Error(`cannot read the query "${query}" from "${text.slice(from)}"`);
    tokens.push(token);
  }
  return tokens;
}
