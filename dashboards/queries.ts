// What a dashboard asks Prometheus, with its variables filled in.

import type { Dashboard, Panel } from "@grafana/grafana-foundation-sdk/dashboard";
import type * as prometheus from "@grafana/grafana-foundation-sdk/prometheus";

export interface Question {
  panel: string;
  refId: string;
  expr: string;
  legend: string;
  datasource: unknown;
}

export type Values = Record<"job" | "instance" | "__rate_interval", string>;

export const kAll: Values = { job: ".+", instance: ".+", __rate_interval: "1m" };

// Throws on a variable that is none of ours.
export function substitute(expr: string, values: Values): string {
  return expr.replace(/\$\{?(\w+)\}?/g, (text, name: string) => {
    const value = values[name as keyof Values];
    if (value === undefined) throw new Error(`${expr}: what is ${text}?`);
    return value;
  });
}

export function panels(dashboard: Dashboard): Panel[] {
  return (dashboard.panels ?? []).filter((p): p is Panel => p.type !== "row");
}

export function questions(dashboard: Dashboard, values: Values): Question[] {
  return panels(dashboard).flatMap((panel) =>
    (panel.targets ?? []).map((target) => {
      const { expr, refId, legendFormat, datasource } = target as prometheus.Dataquery;
      return {
        panel: panel.title!,
        refId: refId!,
        expr: substitute(expr, values),
        legend: legendFormat!,
        datasource,
      };
    }),
  );
}

export interface LabelQuestion {
  variable: string;
  series: string;
  label: string;
}

// What fills the drop-down lists: every query variable is a label_values(series, label).
export function labelQuestions(dashboard: Dashboard, values: Values): LabelQuestion[] {
  return (dashboard.templating?.list ?? [])
    .filter((v) => v.type === "query")
    .map((v) => {
      const { query } = v.query as { query: string };
      const match = /^label_values\((.+), (\w+)\)$/.exec(query);
      if (!match) throw new Error(`${v.name}: ${query}`);
      return { variable: v.name, series: substitute(match[1]!, values), label: match[2]! };
    });
}
