// PromQL, read with Prometheus' own grammar: which metrics an expression uses, and what is wrong with it.

import { parser } from "@prometheus-io/lezer-promql";

// Type by metric name: "counter", "gauge", "histogram", "untyped".
export type Catalogue = Map<string, string>;

interface Selector {
  metric: string;
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
      const range = node.node.parent?.name === "MatrixSelector" ? node.node.parent : null;
      const call = range?.parent?.parent?.getChild("FunctionIdentifier");
      found.push({
        metric: expr.slice(name.from, name.to),
        within: call ? expr.slice(call.from, call.to) : "",
      });
    },
  });
  return found;
}

// Every metric must exist; a counter says something only by its increase, anything else never by it.
export function complaints(expr: string, catalogue: Catalogue): string[] {
  return selectors(expr).flatMap(({ metric, within }) => {
    const family = metric.replace(/_(bucket|sum|count)$/, "");
    const histogram = catalogue.get(family) === "histogram" && family !== metric;
    const type = histogram ? "counter" : catalogue.get(metric);
    if (type === undefined) return [`no such metric: ${metric}`];
    if (type === "histogram") return [`${metric} is a histogram`];
    const rated = within === "rate" || within === "increase";
    if ((type === "counter") === rated) return [];
    return [rated ? `${within} of ${metric}, a ${type}` : `${metric} outside rate() or increase()`];
  });
}

// From an exposition in the text format: its # TYPE lines.
export function catalogueOf(exposition: string): Catalogue {
  return new Map(
    [...exposition.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name!, type!]),
  );
}
