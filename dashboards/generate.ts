// node build/js/dashboards/generate.js DIR: writes every dashboard as JSON into DIR.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { kDashboards, render } from "./all.js";

const [dir] = process.argv.slice(2);
if (!dir) {
  console.error("usage: generate.js DIR");
  process.exit(2);
}
for (const [file, dashboard] of Object.entries(kDashboards)) {
  writeFileSync(join(dir, file), render(dashboard));
}
