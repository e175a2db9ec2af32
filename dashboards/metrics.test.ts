// Whatever names a metric names one that exists, and asks it a question that makes sense.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { allMetrics, exportedMetrics } from "../alerts/catalogue.js";
import { kRoot } from "../alerts/promtool.js";
import { type Catalogue, complaints } from "../alerts/promql.js";
import { ruleGroups } from "../alerts/rules.js";
import { kDashboards } from "./all.js";
import { kAll, labelQuestions, questions } from "./queries.js";

function check(catalogue: Catalogue, asked: Array<[where: string, expr: string]>): void {
  assert.ok(asked.length > 0);
  const wrong = asked.flatMap(([where, expr]) =>
    complaints(expr, catalogue).map((complaint) => `${where}: ${complaint}`),
  );
  assert.deepEqual(wrong, []);
}

test("rules", () => {
  const rules = ruleGroups().flatMap((g) => g.rules);
  check(
    allMetrics(),
    rules.map((r) => ["alert" in r ? r.alert : r.record, r.expr]),
  );
});

test("runbooks", () => {
  const dir = join(kRoot, "docs/runbooks");
  const asked = readdirSync(dir).flatMap((page) => {
    const text = readFileSync(join(dir, page), "utf8");
    return [...text.matchAll(/^```promql\n(.*?)^```/gms)]
      .flatMap(([, block]) => block!.trim().split("\n"))
      .map((line): [string, string] => [page, line]);
  });
  check(allMetrics(), asked);
});

// Dashboards work without the rules.
for (const [file, dashboard] of Object.entries(kDashboards)) {
  test(file, () => {
    check(exportedMetrics(), [
      ...questions(dashboard, kAll).map((q): [string, string] => [q.panel, q.expr]),
      ...labelQuestions(dashboard, kAll).map((q): [string, string] => [q.variable, q.series]),
    ]);
  });
}

test("the three names operators know are recorded or exported", () => {
  for (const name of ["tcp_conntrack_count", "tcp_retrans", "tcp_rtt"]) {
    assert.ok(allMetrics().has(name), name);
  }
  assert.ok(!exportedMetrics().has("tcp_retrans") && exportedMetrics().has("tcp_conntrack_count"));
});
