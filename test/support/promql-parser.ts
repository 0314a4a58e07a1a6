import type { SyntaxNode, SyntaxNodeRef } from '@lezer/common';
import { parser } from '@prometheus-io/lezer-promql';

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

/**
 * Reads from a query what it reads: its selectors and groupings, by Prometheus' own grammar.
 * @throws Error for what is no PromQL, and for `without`, which no dashboard or rule here uses.
 */
export function readPromql(query: string): Promql {
  const selectors: Selector[] = [];
  const groupings: { labels: string[]; selectors: Selector[] }[] = [];
  const textOf = ({ from, to }: SyntaxNodeRef) => query.slice(from, to);

  function visit(
    node: SyntaxNode,
    within: readonly string[],
    around: readonly (typeof groupings)[number][],
  ): void {
    if (node.name === 'VectorSelector') {
      const selector = {
        metric: textOf(node.getChild('Identifier') ?? node),
        matchers: matchersOf(node),
        hasRange: node.parent?.name === 'MatrixSelector',
        within,
      };
      selectors.push(selector);
      for (const grouping of around) grouping.selectors.push(selector);
      return;
    }
    const caller = node.getChild('FunctionIdentifier') ?? node.getChild('AggregateOp');
    const inside = caller ? [textOf(caller), ...within] : within;
    let groups = around;
    if (node.name === 'AggregateExpr') {
      const labels =
        node.getChild('AggregateModifier')?.getChild('GroupingLabels')?.getChildren('LabelName') ?? [];
      const grouping = { labels: labels.map(textOf), selectors: [] };
      groupings.push(grouping);
      groups = [grouping, ...around];
    }
    for (let child = node.firstChild; child; child = child.nextSibling) visit(child, inside, groups);
  }

  function matchersOf(selector: SyntaxNode): Matcher[] {
    const list = selector.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? [];
    return list.map((matcher) => {
      const [label, op, value] = ['LabelName', 'MatchOp', 'StringLiteral'].map((name) => {
        const part = matcher.getChild(name);
        if (!part) throw new Error(`cannot read the query "${query}" at character ${matcher.from}`);
        return textOf(part);
      });
      return { label: label ?? '', op: op as Matcher['op'], value: JSON.parse(value ?? '') as string };
    });
  }

  const tree = parser.parse(query);
  tree.iterate({
    enter({ type, name, from }) {
      if (type.isError || name === 'Without') {
        throw new Error(`cannot read the query "${query}" at character ${from}`);
      }
    },
  });
  visit(tree.topNode, [], []);
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
