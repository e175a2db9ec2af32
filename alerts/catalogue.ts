// The metrics there are: those in METRICS.md, and those the rules make of them.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { type Catalogue, catalogueOf } from "./promql.js";
import { kRoot } from "./promtool.js";
import { ruleGroups } from "./rules.js";

export function exportedMetrics(): Catalogue {
  return catalogueOf(readFileSync(join(kRoot, "METRICS.md"), "utf8"));
}

export function allMetrics(): Catalogue {
  const all = exportedMetrics().set("up", { type: "gauge" });
  for (const rule of ruleGroups().flatMap((g) => g.rules)) {
    if ("record" in rule) all.set(rule.record, { type: "gauge" });
  }
  return all;
}
