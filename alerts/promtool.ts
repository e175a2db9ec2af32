// Where the repository is, and Prometheus' own checker in it.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export const kRoot = fileURLToPath(new URL("../../../", import.meta.url)); // from build/js/alerts

// Runs promtool; throws with all it said if it is not content, and if it is not there.
export function promtool(...args: string[]): void {
  const path = `${kRoot}build/tools/prometheus/usr/bin/promtool`;
  const run = spawnSync(path, args, { encoding: "utf8" });
  if (run.error) throw new Error(`${path}: ${run.error.message}: ./dev test puts it there`);
  if (run.status !== 0) throw new Error(`promtool ${args.join(" ")}\n${run.stdout}${run.stderr}`);
}
