import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import { stringify } from "yaml";

import { type Case, kCases } from "./cases.js";
import { exportedMetrics } from "./catalogue.js";
import { edgeTests, neverTest } from "./edge_tests.js";
import { kEdges, kNever } from "./edges.js";
import { metricsOf } from "./promql.js";
import { kRoot, promtool } from "./promtool.js";
import { inputSeries, placed } from "./series.js";
import { renderRules, scaleGroups } from "./render.js";
import { type AlertRule, ruleGroups, type Severity } from "./rules.js";

const kCommitted = join(kRoot, "alerts/tcpvitals.rules.yml");
const groups = ruleGroups();
const alerts = groups.flatMap((g) => g.rules).filter((r): r is AlertRule => "alert" in r);
const names = [...new Set(alerts.map((a) => a.alert))];
const catalogue = exportedMetrics();
const recorded = new Map(
  groups.flatMap((g) => g.rules).flatMap((r) => ("record" in r ? [[r.record, r.expr] as const] : [])),
);

// The metrics that an expression reads, those behind recorded ones included.
const read = (expr: string): string[] =>
  metricsOf(expr).flatMap((m) => (recorded.has(m) ? read(recorded.get(m)!) : [m]));

function withFile(name: string, content: string, use: (path: string) => void): void {
  const dir = mkdtempSync(join(tmpdir(), "tcpvitals-rules-"));
  try {
    writeFileSync(join(dir, name), content);
    use(join(dir, name));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

// With the recording rules and that alert: promtool evaluates every rule every minute.
function promtoolTests(tests: object[], name = ""): void {
  const needed = groups.map((g) => ({
    ...g,
    rules: g.rules.filter((r) => "record" in r || r.alert === name),
  }));
  withFile("rules.yml", renderRules(needed), (rules) => {
    const file = { rule_files: [rules], evaluation_interval: "1m", tests };
    withFile("tests.yml", stringify(file), (path) => promtool("test", "rules", path));
  });
}

function expected(alert: AlertRule, c: Case) {
  const { severity } = alert.labels;
  const labels = { job: "tcpvitals", instance: "db1", ...c.labels, severity };
  return {
    exp_labels: Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== "")),
    exp_annotations: { ...alert.annotations, description: c.fires![severity] },
  };
}

function alertTest(name: string, c: Case): object {
  return {
    interval: "1m",
    input_series: inputSeries(c.series),
    alert_rule_test: [
      {
        eval_time: `${c.at}m`,
        alertname: name,
        exp_alerts: alerts
          .filter((a) => a.alert === name && c.fires?.[a.labels.severity])
          .map((a) => expected(a, c)),
      },
    ],
  };
}

test("the committed rules are what the source generates", () => {
  assert.equal(readFileSync(kCommitted, "utf8"), renderRules(groups), "run ./dev golden");
});

test("promtool accepts the rules, on the real clock and on a faster one", () => {
  promtool("check", "rules", "--lint=all", "--lint-fatal", kCommitted);
  withFile("fast.yml", renderRules(scaleGroups(groups, 1 / 60)), (path) =>
    promtool("check", "rules", "--lint=all", "--lint-fatal", path),
  );
});

test("a faster clock changes windows and nothing else", () => {
  const fast = renderRules(scaleGroups(groups, 1 / 60));
  const withoutTimes = (rules: string): string =>
    rules.replace(/\[\w+\]/g, "[]").replace(/ for: \w+/g, " for:");
  assert.equal(withoutTimes(fast), withoutTimes(renderRules(groups)));
  assert.match(fast, /segments_sent_total\[5s\]\) > 10\n +for: 10s/);
  assert.doesNotMatch(fast, /\[\d+[mh]\](?<!\[1m\])/);
});

for (const name of names) {
  for (const [i, c] of (kCases[name] ?? []).entries()) {
    test(`${name}: ${c.kind} (case ${i + 1})`, () => promtoolTests([alertTest(name, c)], name));
  }

  test(`${name} has a case of every kind that applies`, () => {
    const cases = kCases[name] ?? [];
    const tiers = alerts.filter((a) => a.alert === name);
    const kinds = new Set(cases.map((c) => c.kind));
    const wanted = ["firing", "quiet"];
    if (tiers.some((a) => /rate|increase/.test(a.expr))) wanted.push("reset");
    if (!name.startsWith("Tcpvitals")) wanted.push("idle");
    for (const kind of wanted) assert.ok(kinds.has(kind as Case["kind"]), `no ${kind} case`);
    for (const c of cases) assert.equal(c.kind === "firing", c.fires !== undefined, c.kind);
    const fired = new Set(cases.flatMap((c) => Object.keys(c.fires ?? {}) as Severity[]));
    for (const a of tiers) assert.ok(fired.has(a.labels.severity), `never ${a.labels.severity}`);
  });

  for (const edge of kEdges[name] ?? []) {
    test(`${name}: ${edge.severity}, exactly at the edge of ${edge.of}`, () =>
      promtoolTests(edgeTests(name, edge, catalogue), name));
  }

  for (const never of kNever[name] ?? []) {
    test(`${name}: never while ${never.of}`, () => promtoolTests([neverTest(name, never)], name));
  }

  // Each severity has an edge, and every metric that the rule reads is part of one.
  test(`${name} has its edges`, () => {
    for (const { labels, expr } of alerts.filter((a) => a.alert === name)) {
      const edges = (kEdges[name] ?? []).filter((e) => e.severity === labels.severity);
      assert.ok(edges.length > 0, `no edge at ${labels.severity}`);
      const tried = edges.flatMap((e) => Object.keys(e.series(() => "")));
      for (const metric of read(expr)) {
        assert.ok(tried.some((series) => series.split("{")[0] === metric), `${metric} has no edge`);
      }
    }
  });

  test(`${name} has a runbook`, () => {
    assert.ok(existsSync(join(kRoot, `docs/runbooks/${name}.md`)), `docs/runbooks/${name}.md`);
  });
}

const kGroup = 'direction="inbound",port="443",peer="public"';

// Values that recorded metrics have after 90 minutes, rounded, by their labels.
const kRecorded: Array<{
  name: string;
  series: Record<string, string>;
  values: Record<string, Record<string, number>>;
}> = [
  {
    name: "a host's ratio over each window, loss having ended 15 minutes ago",
    series: {
      tcp_host_segments_sent_total: "0+6000x90",
      tcp_host_segments_retransmitted_total: "0+600x75 45000+0x15",
    },
    values: {
      "host:tcp_retransmits:ratio_rate5m": { "": 0 },
      "host:tcp_retransmits:ratio_rate30m": { "": 0.05 },
      "host:tcp_retransmits:ratio_rate1h": { "": 0.075 },
      tcp_retrans: { "": 0 },
    },
  },
  {
    name: "a group's ratio over each window, across a restart of the agent",
    series: {
      [`tcp_data_segments_sent_total{${kGroup}}`]: "0+6000x87 6000+6000x3",
      [`tcp_retransmitted_segments_total{${kGroup}}`]: "0+300x87 300+300x3",
      [`tcp_retransmitted_syns_total{${kGroup}}`]: "0x90",
    },
    values: {
      "group:tcp_retransmits:ratio_rate5m": { [kGroup]: 0.05 },
      "group:tcp_retransmits:ratio_rate30m": { [kGroup]: 0.05 },
      "group:tcp_retransmits:ratio_rate1h": { [kGroup]: 0.05 },
    },
  },
  {
    name: "a group's ratio is that of its data segments: unanswered connects are not in it",
    series: {
      [`tcp_data_segments_sent_total{${kGroup}}`]: "0+100x90",
      [`tcp_retransmitted_segments_total{${kGroup}}`]: "0+753x90",
      [`tcp_retransmitted_syns_total{${kGroup}}`]: "0+750x90",
      [`tcp_syns_sent_total{${kGroup}}`]: "0+1000x90",
    },
    values: {
      "group:tcp_syn_retransmits:ratio_rate5m": { [kGroup]: 0.75 },
      "group:tcp_retransmits:ratio_rate5m": { [kGroup]: 0.03 },
      "group:tcp_retransmits:ratio_rate30m": { [kGroup]: 0.03 },
      "group:tcp_retransmits:ratio_rate1h": { [kGroup]: 0.03 },
    },
  },
  {
    name: "a group that repeats FINs without data shows no more than all",
    series: {
      [`tcp_data_segments_sent_total{${kGroup}}`]: "0+1x90",
      [`tcp_retransmitted_segments_total{${kGroup}}`]: "0+8x90",
      [`tcp_retransmitted_syns_total{${kGroup}}`]: "0x90",
    },
    values: { "group:tcp_retransmits:ratio_rate5m": { [kGroup]: 1 } },
  },
  {
    name: "the median round trip of each peer group, ports summed; none where nothing was measured",
    series: {
      'tcp_rtt_seconds_bucket{direction="inbound",port="80",peer="public",le="0.01"}': "0x90",
      'tcp_rtt_seconds_bucket{direction="inbound",port="80",peer="public",le="0.02"}': "0+60x90",
      'tcp_rtt_seconds_bucket{direction="inbound",port="80",peer="public",le="+Inf"}': "0+60x90",
      'tcp_rtt_seconds_bucket{direction="outbound",port="443",peer="public",le="0.01"}': "0+60x90",
      'tcp_rtt_seconds_bucket{direction="outbound",port="443",peer="public",le="0.02"}': "0+60x90",
      'tcp_rtt_seconds_bucket{direction="outbound",port="443",peer="public",le="+Inf"}': "0+60x90",
      'tcp_rtt_seconds_bucket{direction="inbound",port="80",peer="loopback",le="0.01"}': "0+60x90",
      'tcp_rtt_seconds_bucket{direction="inbound",port="80",peer="loopback",le="+Inf"}': "0+60x90",
      'tcp_rtt_seconds_bucket{direction="inbound",port="80",peer="private",le="0.01"}': "7x90",
      'tcp_rtt_seconds_bucket{direction="inbound",port="80",peer="private",le="+Inf"}': "7x90",
    },
    values: { tcp_rtt: { 'peer="public"': 0.01, 'peer="loopback"': 0.005 } },
  },
  {
    name: "no ratio where nothing is sent",
    series: {
      tcp_host_segments_sent_total: "6000x90",
      tcp_host_segments_retransmitted_total: "600x90",
      [`tcp_data_segments_sent_total{${kGroup}}`]: "6000x90",
      [`tcp_retransmitted_segments_total{${kGroup}}`]: "600x90",
      [`tcp_retransmitted_syns_total{${kGroup}}`]: "0x90",
      [`tcp_syns_sent_total{${kGroup}}`]: "7x90",
    },
    values: {
      "group:tcp_syn_retransmits:ratio_rate5m": {},
      "host:tcp_retransmits:ratio_rate5m": {},
      "group:tcp_retransmits:ratio_rate5m": {},
      tcp_retrans: {},
    },
  },
];

for (const { name, series, values } of kRecorded) {
  test(`recorded: ${name}`, () => {
    const tests = [
      {
        interval: "1m",
        input_series: inputSeries(series),
        promql_expr_test: Object.entries(values).map(([metric, samples]) => ({
          expr: `round(${metric}, 0.0001)`,
          eval_time: "90m",
          exp_samples: Object.entries(samples).map(([labels, value]) => ({
            labels: placed(`{${labels}}`),
            value,
          })),
        })),
      },
    ];
    promtoolTests(tests);
  });
}

test("no case is for an alert that does not exist", () => {
  const tried = [kCases, kEdges, kNever].flatMap((cases) => Object.keys(cases));
  for (const name of tried) assert.ok(names.includes(name), name);
});
