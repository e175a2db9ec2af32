import assert from "node:assert/strict";
import test from "node:test";

import { catalogueOf, complaints } from "./promql.js";

const catalogue = catalogueOf(`# Metrics

| metric | type | unit | labels | meaning | source |
|---|---|---|---|---|---|
| \`a_total\` | counter |  | \`x\`, \`y\` | A counter. | |
| \`g\` | gauge |  |  | A gauge \\| not more. | |
| \`h_seconds\` | histogram | seconds | \`x\` | A histogram. | |
`);

test("a counter may stand in rate and increase only", () => {
  assert.deepEqual(
    complaints("sum by (x) (rate(a_total{x='1'}[5m])) / increase(a_total[1m])", catalogue),
    [],
  );
  for (const expr of ["a_total", "sum(a_total) > 1", "max_over_time(a_total[5m])", "rate(g[5m])"]) {
    assert.equal(complaints(expr, catalogue).length, 1, expr);
  }
});

test("the parts of a histogram are counters, the whole is nothing", () => {
  assert.deepEqual(
    complaints("rate(h_seconds_sum[5m]) / rate(h_seconds_count[5m])", catalogue),
    [],
  );
  for (const expr of ["h_seconds_bucket", "h_seconds", "g_count"]) {
    assert.equal(complaints(expr, catalogue).length, 1, expr);
  }
});

test("an unknown metric is named, however deep it stands", () => {
  const expr = "topk(3, g and on (x) (b > 0)) or label_replace(g, 'a', '$1', 'b', '(.*)')";
  assert.deepEqual(complaints(expr, catalogue), ["no such metric: b"]);
});

test("a metric is selected by labels it has, or that Prometheus adds", () => {
  const good = 'rate(a_total{x="1",y!="2",job="j"}[5m]) + rate(h_seconds_bucket{le="1"}[5m])';
  assert.deepEqual(complaints(good, catalogue), []);
  assert.deepEqual(complaints('g{x="1"} + rate(a_total{z="1"}[5m])', catalogue), [
    "g has no label x",
    "a_total has no label z",
  ]);
});

test("what is not PromQL throws", () => {
  for (const expr of ["rate(a_total[5m]", "g >", "g by (x)", '{job="x"}', "rate(a_total[$x])"]) {
    assert.throws(() => complaints(expr, catalogue), /PromQL|metric name/, expr);
  }
});
