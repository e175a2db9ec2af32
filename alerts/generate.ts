// node build/js/alerts/generate.js [--scale 1/60] [--runbooks URL] > FILE
//
// Writes the rules to stdout. --scale shortens every window and `for`, so that a test need not wait
// ten minutes for an alert; --runbooks says where docs/runbooks is published.

import { parseArgs } from "node:util";

import { renderRules, scaleGroups } from "./render.js";
import { kRunbooks, ruleGroups } from "./rules.js";

const { values } = parseArgs({
  options: {
    scale: { type: "string", default: "1" },
    runbooks: { type: "string", default: kRunbooks },
  },
});

const [numerator, denominator = 1] = values.scale!.split("/").map(Number);
const scale = numerator! / denominator;
if (!(scale > 0 && scale < Infinity)) {
  console.error(`generate: --scale ${values.scale}: expected a number or a fraction above 0`);
  process.exit(2);
}

process.stdout.write(renderRules(scaleGroups(ruleGroups(values.runbooks), scale)));
