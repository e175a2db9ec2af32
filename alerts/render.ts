// Rule groups as a Prometheus rules file, on the real clock or a faster one.

import { stringify } from "yaml";

import { scaleDuration } from "./duration.js";
import type { RuleGroup } from "./rules.js";

const kHeader = `# Generated from alerts/rules.ts by "./dev golden": edit that, not this.
# The third name next to tcp_retrans and tcp_rtt, tcp_conntrack_count, is a metric of the agent itself.
`;

// The same rules with every window and every `for` multiplied by `scale`; names stay.
export function scaleGroups(groups: RuleGroup[], scale: number): RuleGroup[] {
  return groups.map(({ name, rules }) => ({
    name,
    rules: rules.map((rule) => ({
      ...rule,
      expr: rule.expr.replace(
        /\[(\w+)\]/g,
        (_, window: string) => `[${scaleDuration(window, scale)}]`,
      ),
      ...("for" in rule && rule.for && { for: scaleDuration(rule.for, scale) }),
    })),
  }));
}

export function renderRules(groups: RuleGroup[]): string {
  return kHeader + stringify({ groups }, { lineWidth: 0 });
}
