// promtool tests made from the edges of an alert.

import { type Edge, firstTrue, type Never, seriesAt, type Series } from "./edges.js";
import type { Catalogue } from "./promql.js";
import { inputSeries, labelled } from "./series.js";

interface Sample {
  labels: string;
  value: number;
}

interface Expectation {
  at: number; // minutes
  expr: string;
  samples: Sample[];
}

const kOne: Sample[] = [{ labels: "{}", value: 1 }];

const promtoolTest = (series: Series, expectations: Expectation[]): object => ({
  interval: "1m",
  input_series: inputSeries(series),
  promql_expr_test: expectations.map(({ at, expr, samples }) => ({
    eval_time: `${at}m`,
    expr,
    exp_samples: samples,
  })),
});

const state = (name: string, edge: Edge, state: "pending" | "firing"): string =>
  `ALERTS{alertname="${name}",severity="${edge.severity}",alertstate="${state}"}`;

// Not even pending, at any minute.
const never = (name: string, severity: string, at: number): Expectation => ({
  at,
  expr: `count_over_time(ALERTS{alertname="${name}"${severity && `,severity="${severity}"`}}[1d])`,
  samples: [],
});

function under(name: string, edge: Edge): object {
  return promtoolTest(seriesAt(edge, edge.under), [
    never(name, edge.severity, firstTrue(edge) + edge.for + 10),
  ]);
}

function over(name: string, edge: Edge): object {
  const start = firstTrue(edge);
  const fires = start + edge.for;
  const firing = `count(${state(name, edge, "firing")})`;
  const expectations = [
    never(name, edge.severity, start - 1),
    { at: start, expr: `count(ALERTS{alertname="${name}",severity="${edge.severity}"})`, samples: kOne },
    { at: fires - 1, expr: firing, samples: [] },
    { at: fires, expr: firing, samples: kOne },
  ];
  if (edge.until !== undefined) {
    expectations.push(
      { at: start + edge.until - 1, expr: firing, samples: kOne },
      { at: start + edge.until, expr: firing, samples: [] },
    );
  }
  return promtoolTest(seriesAt(edge, edge.over), expectations);
}

// The labels by which two levels can be told apart: those of the metrics at that level, but for those that
// the edge itself chooses.
function freeLabels(edge: Edge, catalogue: Catalogue): string[] {
  if (edge.apart) return edge.apart;
  const over = seriesAt(edge, edge.over);
  const series = Object.entries(seriesAt(edge, edge.under)).filter(([name, values]) => values !== over[name]);
  const metrics = series.map(([name]) => name.split("{")[0]!);
  const labels = new Set(metrics.flatMap((metric) => catalogue.get(metric)?.labels ?? []));
  const chosen = Object.keys(over).join();
  return ["instance", ...labels].filter((label) => !chosen.includes(`${label}="`));
}

// The edge's series with one more label, where the metric has it.
function withLabel(series: Series, label: string, value: string, catalogue: Catalogue): Series {
  return Object.fromEntries(
    Object.entries(series).map(([name, values]) => {
      const known = catalogue.get(name.split("{")[0]!)?.labels ?? [];
      const has = label === "instance" || known.includes(label);
      return [has ? labelled(name, { [label]: value }) : name, values];
    }),
  );
}

// Of two series, one under the edge and one over it, the latter alone fires.
function apart(name: string, edge: Edge, label: string, catalogue: Catalogue): object {
  const good = withLabel(seriesAt(edge, edge.under), label, "good", catalogue);
  const bad = withLabel(seriesAt(edge, edge.over), label, "bad", catalogue);
  const expr = `count by (${label}) (${state(name, edge, "firing")})`;
  const samples = [{ labels: `{${label}="bad"}`, value: 1 }];
  return promtoolTest({ ...good, ...bad }, [{ at: firstTrue(edge) + edge.for, expr, samples }]);
}

export function edgeTests(name: string, edge: Edge, catalogue: Catalogue): object[] {
  const labels = freeLabels(edge, catalogue);
  return [
    under(name, edge),
    over(name, edge),
    ...labels.map((label) => apart(name, edge, label, catalogue)),
  ];
}

export const neverTest = (name: string, { series }: Never): object =>
  promtoolTest(series, [never(name, "", 90)]);
