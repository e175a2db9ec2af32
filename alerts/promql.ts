// PromQL, read with Prometheus' own grammar: which metrics an expression uses, and what is wrong with it.

import { parser } from "@prometheus-io/lezer-promql";

export interface Metric {
  type: string; // "counter", "gauge", "histogram", "untyped"
  labels?: string[]; // its own; undefined: not known
}

export type Catalogue = Map<string, Metric>;

// What Prometheus itself adds.
const kCommonLabels = ["job", "instance", "le"];

interface Selector {
  metric: string;
  labels: string[]; // that it is selected by
  within: string; // the function right around a range selector: "rate"; "" around an instant one
}

// Throws on what is not PromQL. Dashboard variables must have been replaced.
function selectors(expr: string): Selector[] {
  const found: Selector[] = [];
  parser.parse(expr).iterate({
    enter(node) {
      if (node.type.isError) throw new Error(`not PromQL at ${node.from}: ${expr}`);
      if (node.name !== "VectorSelector") return;
      const name = node.node.getChild("Identifier");
      if (!name) throw new Error(`a selector without a metric name: ${expr}`);
      const matchers =
        node.node.getChild("LabelMatchers")?.getChildren("UnquotedLabelMatcher") ?? [];
      const labels = matchers.map((m) => m.getChild("LabelName")!);
      const range = node.node.parent?.name === "MatrixSelector" ? node.node.parent : null;
      const call = range?.parent?.parent?.getChild("FunctionIdentifier");
      found.push({
        metric: expr.slice(name.from, name.to),
        labels: labels.map(({ from, to }) => expr.slice(from, to)),
        within: call ? expr.slice(call.from, call.to) : "",
      });
    },
  });
  return found;
}

export const metricsOf = (expr: string): string[] => selectors(expr).map(({ metric }) => metric);

// Every metric must exist and have the labels it is selected by; a counter says something only by its
// increase, anything else never by it.
export function complaints(expr: string, catalogue: Catalogue): string[] {
  return selectors(expr).flatMap(({ metric, labels, within }) => {
    const family = metric.replace(/_(bucket|sum|count)$/, "");
    const part = family !== metric && catalogue.get(family)?.type === "histogram";
    const known = catalogue.get(part ? family : metric);
    if (known === undefined) return [`no such metric: ${metric}`];
    const type = part ? "counter" : known.type;
    if (type === "histogram") return [`${metric} is a histogram`];
    const rated = within === "rate" || within === "increase";
    const wrong = labels
      .filter((l) => known.labels && ![...known.labels, ...kCommonLabels].includes(l))
      .map((l) => `${metric} has no label ${l}`);
    if ((type === "counter") === rated) return wrong;
    const how = rated
      ? `${within} of ${metric}, a ${type}`
      : `${metric} outside rate() or increase()`;
    return [...wrong, how];
  });
}

// From METRICS.md: `name` | type | unit | `label`, `label` | …
export function catalogueOf(reference: string): Catalogue {
  return new Map(
    [...reference.matchAll(/^\| `(\w+)` \| (\w+) \|[^|]*\|([^|]*)\|/gm)].map(
      ([, name, type, labels]) => [
        name!,
        { type: type!, labels: [...labels!.matchAll(/`(\w+)`/g)].map(([, label]) => label!) },
      ],
    ),
  );
}
