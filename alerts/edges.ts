// Where each alert begins: the level that must never fire, the one just above it, and the minute at which
// that one fires.
//
// From every edge rules.test.ts makes promtool tests: under it nothing is ever pending; over it the alert is
// pending when the rise is complete, fires exactly at the end of `for` and not a minute before; and of two
// series that differ in one label only the bad one fires. The numbers are written here again, not taken from
// rules.ts: a threshold or a `for` that changes there must be changed here too.

import type { Severity } from "./rules.js";

export type Series = Record<string, string>;

// Ten quiet minutes, then the level for longer than any `for`.
const kQuiet = 10;
const kMinutes = 200;

// A gauge that is at `times` the level, or a counter that rises by it each minute, after the quiet time.
export type Level = (times?: number) => string;

export interface Edge {
  of: string;
  severity: Severity;
  for: number; // minutes
  kind: "gauge" | "counter"; // what the level is
  quiet?: number; // a gauge's value before; 0
  under: number;
  over: number;
  rise?: number; // minutes until the level is all there is in the rule's window; 1
  until?: number; // minutes after the rise until it is forgotten
  apart?: string[]; // instead of `instance` and all labels of the metrics
  series: (level: Level) => Series;
}

// Series that must not fire, whatever they look like.
export interface Never {
  of: string;
  series: Series;
}

// The first minute in which the condition holds.
export const firstTrue = (edge: Edge): number => kQuiet + (edge.rise ?? 1);

export const seriesAt = (edge: Edge, value: number): Series =>
  edge.series((times = 1) => {
    const v = times * value;
    return edge.kind === "gauge"
      ? `${edge.quiet ?? 0}x${kQuiet} ${v}x${kMinutes}`
      : `0x${kQuiet} ${v}+${v}x${kMinutes}`;
  });

const always = (value: number): string => `${value}x${kQuiet + kMinutes + 1}`;
const steady = (perMinute: number): string => `0+${perMinute}x${kQuiet + kMinutes + 1}`;

// A share of something that must not pass a limit.
const share = (severity: Severity, minutes: number, used: string, most: string, limit: number): Edge => ({
  of: used,
  severity,
  for: minutes,
  kind: "gauge",
  under: limit * 1000,
  over: limit * 1000 + 1,
  series: (level) => ({ [used]: level(), [most]: always(1000) }),
});

// Nothing is divided by a limit of zero.
const unlimited = (used: string, most: string): Never => ({
  of: `${most} is 0`,
  series: { [used]: always(5), [most]: always(0) },
});

// A counter that may not increase; it is forgotten after 15 minutes.
const still = (metric: string): Edge => ({
  of: metric,
  severity: "warning",
  for: 0,
  kind: "gauge",
  under: 0,
  over: 1,
  until: 15,
  series: (level) => ({ [metric]: level() }),
});

const hostRetransmits = (severity: Severity, minutes: number, window: number, percent: number): Edge[] => [
  {
    of: "the ratio",
    severity,
    for: minutes,
    kind: "counter",
    under: 60 * percent,
    over: 60 * percent + 1,
    rise: window,
    series: (level) => ({
      tcp_host_segments_sent_total: steady(6000),
      tcp_host_segments_retransmitted_total: level(),
    }),
  },
  {
    of: "the floor of segments sent",
    severity,
    for: minutes,
    kind: "counter",
    under: 600,
    over: 601,
    rise: window,
    series: (level) => ({
      tcp_host_segments_sent_total: level(),
      tcp_host_segments_retransmitted_total: level(0.5),
    }),
  },
];

const connectFailures = (reason: string): Edge => ({
  of: `attempts that end in ${reason}`,
  severity: "warning",
  for: 10,
  kind: "counter",
  under: 50,
  over: 51,
  rise: 5,
  series: (level) => ({
    tcp_connections_opened_total: steady(950),
    [`tcp_connection_failures_total{reason="${reason}"}`]: level(),
  }),
});

const certificate = (severity: Severity, days: number): Edge => ({
  of: "the time that is left",
  severity,
  for: 15,
  kind: "gauge",
  quiet: 1000 * 86400,
  under: days * 86400 + 60 * (kQuiet + kMinutes + 1), // promtool's clock begins at 0
  over: days * 86400 + 60 * (kQuiet + 1) - 1,
  series: (level) => ({ tcp_server_tls_certificate_expiry_timestamp_seconds: level() }),
});

export const kEdges: Record<string, Edge[]> = {
  TcpRetransmitsHigh: [
    ...hostRetransmits("critical", 5, 5, 5),
    ...hostRetransmits("warning", 10, 5, 1),
    ...hostRetransmits("info", 30, 60, 1),
  ],
  TcpGroupRetransmitsHigh: [
    {
      of: "the ratio, SYNs aside",
      severity: "warning",
      for: 10,
      kind: "counter",
      under: 300,
      over: 301,
      rise: 5,
      series: (level) => ({
        tcp_data_segments_sent_total: steady(6000),
        tcp_retransmitted_segments_total: level(),
        tcp_retransmitted_syns_total: always(0),
      }),
    },
    {
      of: "the floor of data segments",
      severity: "warning",
      for: 10,
      kind: "counter",
      under: 600,
      over: 601,
      rise: 5,
      series: (level) => ({
        tcp_data_segments_sent_total: level(),
        tcp_retransmitted_segments_total: level(0.5),
        tcp_retransmitted_syns_total: always(0),
      }),
    },
  ],
  TcpSynRetransmitsHigh: [
    ...["active", "passive"].map(
      (by): Edge => ({
        of: `the ratio, where opens are ${by}`,
        severity: "warning",
        for: 10,
        kind: "counter",
        under: 100,
        over: 101,
        rise: 5,
        series: (level) => ({
          tcp_host_syn_retransmits_total: level(),
          [`tcp_host_connections_opened_total{by="${by}"}`]: steady(1900),
        }),
      }),
    ),
    {
      of: "the floor of SYN retransmits",
      severity: "warning",
      for: 10,
      kind: "counter",
      under: 60,
      over: 61,
      rise: 5,
      series: (level) => ({
        tcp_host_syn_retransmits_total: level(),
        'tcp_host_connections_opened_total{by="active"}': steady(10),
      }),
    },
  ],
  TcpConnectFailuresHigh: [
    ...["refused", "unanswered", "unknown"].map(connectFailures),
    {
      of: "the floor of attempts",
      severity: "warning",
      for: 10,
      kind: "counter",
      under: 12,
      over: 12.5,
      rise: 5,
      series: (level) => ({
        tcp_connections_opened_total: level(0.5),
        'tcp_connection_failures_total{reason="refused"}': level(0.5),
      }),
    },
  ],
  TcpListenDrops: [
    ...(
      [
        ["critical", 5],
        ["warning", 1],
      ] as const
    ).map(
      ([severity, perSecond]): Edge => ({
        of: "drops",
        severity,
        for: 5,
        kind: "counter",
        under: 60 * perSecond,
        over: 60 * perSecond + 1,
        rise: 5,
        series: (level) => ({ tcp_host_listen_drops_total: level() }),
      }),
    ),
  ],
  TcpListenQueueNearlyFull: [
    {
      of: "checks that found it full",
      severity: "critical",
      for: 5,
      kind: "counter",
      under: 60,
      over: 61,
      rise: 5,
      series: (level) => ({
        tcp_listener_queue_full_total: level(),
        tcp_host_listen_overflows_total: steady(1),
      }),
    },
    {
      of: "overflows",
      severity: "critical",
      for: 5,
      kind: "counter",
      under: 0,
      over: 1,
      series: (level) => ({
        tcp_listener_queue_full_total: steady(600),
        tcp_host_listen_overflows_total: level(),
      }),
    },
    share("warning", 5, "tcp_listener_queue_peak", "tcp_listener_queue_limit", 0.8),
  ],
  TcpCloseWaitLeak: [
    {
      of: "old connections",
      severity: "warning",
      for: 10,
      kind: "gauge",
      under: 0,
      over: 1,
      series: (level) => ({ tcp_close_wait_old_connections: level() }),
    },
  ],
  TcpEphemeralPortsNearlyFull: [
    share("warning", 5, "tcp_ephemeral_ports_used", "tcp_ephemeral_ports_limit", 0.8),
  ],
  TcpConntrackNearlyFull: [
    share("critical", 5, "tcp_conntrack_count", "tcp_conntrack_limit", 0.9),
    share("warning", 5, "tcp_conntrack_count", "tcp_conntrack_limit", 0.75),
  ],
  TcpOrphansHigh: [
    share("critical", 5, "tcp_host_orphans", "tcp_host_orphans_limit", 0.5),
    share("warning", 5, "tcp_host_orphans", "tcp_host_orphans_limit", 0.25),
  ],
  TcpMemoryHigh: [
    {
      ...share("critical", 1, "tcp_host_memory_bytes", "tcp_host_memory_limit_bytes", 0.9),
      series: (level) => ({
        tcp_host_memory_bytes: level(),
        'tcp_host_memory_limit_bytes{threshold="low"}': always(1),
        'tcp_host_memory_limit_bytes{threshold="pressure"}': always(1),
        'tcp_host_memory_limit_bytes{threshold="high"}': always(1000),
      }),
    },
    {
      ...share("warning", 5, "tcp_host_memory_bytes", "tcp_host_memory_limit_bytes", 1),
      series: (level) => ({
        tcp_host_memory_bytes: level(),
        'tcp_host_memory_limit_bytes{threshold="low"}': always(500),
        'tcp_host_memory_limit_bytes{threshold="pressure"}': always(1000),
        'tcp_host_memory_limit_bytes{threshold="high"}': always(2000),
      }),
    },
  ],
  TcpNewConnectionsHigh: [
    {
      of: "connections accepted",
      severity: "warning",
      for: 1,
      kind: "counter",
      under: 300_000,
      over: 300_001,
      rise: 2,
      series: (level) => ({ 'tcp_host_connections_opened_total{by="passive"}': level() }),
    },
  ],
  TcpServerCapacityHigh: [
    share("warning", 5, "tcp_server_connections", "tcp_server_connections_limit", 0.8),
  ],
  TcpServerCertificateExpires: [certificate("critical", 2), certificate("warning", 14)],
  TcpvitalsDown: ["tcpvitals", "monitoring/tcpvitals"].map(
    (job): Edge => ({
      of: `a scrape of job ${job}`,
      severity: "critical",
      for: 5,
      kind: "gauge",
      quiet: 1,
      under: 1,
      over: 0,
      series: (level) => ({ [`up{job="${job}"}`]: level() }),
    }),
  ),
  TcpvitalsAbsent: ["tcpvitals", "monitoring/tcpvitals"].map(
    (job): Edge => ({
      of: `the target of job ${job}`,
      severity: "critical",
      for: 15,
      kind: "gauge",
      under: 0,
      over: NaN,
      apart: [], // one target that is there is enough
      series: (level) => ({ [`up{job="${job}"}`]: level().replace(/ NaNx.*/, " stale") }),
    }),
  ),
  TcpvitalsCollectorFailed: [
    {
      of: "success",
      severity: "warning",
      for: 10,
      kind: "gauge",
      quiet: 1,
      under: 1,
      over: 0,
      series: (level) => ({ tcpvitals_collector_success: level() }),
    },
  ],
  TcpvitalsMetricsRejected: [still("tcpvitals_metrics_rejected_total")],
  TcpServerCertificateUnusable: [
    {
      of: "usable",
      severity: "critical",
      for: 2,
      kind: "gauge",
      quiet: 1,
      under: 1,
      over: 0,
      series: (level) => ({ tcp_server_tls_files_usable: level() }),
    },
  ],
  TcpvitalsConfigNotReloaded: [
    {
      of: "success",
      severity: "warning",
      for: 10,
      kind: "gauge",
      quiet: 1,
      under: 1,
      over: 0,
      series: (level) => ({ tcpvitals_config_last_reload_successful: level() }),
    },
  ],
  TcpvitalsFeatureMissing: ["cgroup_names", "netns"].map(
    (feature): Edge => ({
      of: feature,
      severity: "info",
      for: 10,
      kind: "gauge",
      quiet: 1,
      under: 1,
      over: 0,
      series: (level) => ({ [`tcpvitals_feature_available{feature="${feature}"}`]: level() }),
    }),
  ),
  TcpvitalsEventsLost: [
    still("tcpvitals_connection_events_lost_total"),
    still("tcpvitals_event_overruns_total"),
  ],
  TcpvitalsAuditFailing: [
    still("tcpvitals_audit_lines_lost_total"),
    still("tcpvitals_audit_write_errors_total"),
  ],
  TcpvitalsLimitReached: [
    still("tcpvitals_series_dropped_total"),
    still("tcpvitals_groups_overflowed_total"),
    still("tcpvitals_cgroups_overflowed_total"),
    ...[
      'tcpvitals_namespaces_unwatched{reason="limit"}',
      "tcpvitals_listeners_left_out",
      "tcpvitals_untracked_connections",
    ].map((metric): Edge => ({ ...still(metric), until: undefined })),
  ],
};

export const kNever: Record<string, Never[]> = {
  TcpGroupRetransmitsHigh: [
    {
      of: "only SYNs are retransmitted",
      series: {
        tcp_data_segments_sent_total: steady(6000),
        tcp_retransmitted_segments_total: steady(6000),
        tcp_retransmitted_syns_total: steady(6000),
      },
    },
  ],
  TcpListenQueueNearlyFull: [
    {
      of: "the overflows are another namespace's",
      series: {
        'tcp_listener_queue_full_total{netns="host"}': steady(600),
        'tcp_host_listen_overflows_total{netns="web"}': steady(600),
      },
    },
    unlimited("tcp_listener_queue_peak", "tcp_listener_queue_limit"),
  ],
  TcpEphemeralPortsNearlyFull: [unlimited("tcp_ephemeral_ports_used", "tcp_ephemeral_ports_limit")],
  TcpConntrackNearlyFull: [unlimited("tcp_conntrack_count", "tcp_conntrack_limit")],
  TcpOrphansHigh: [unlimited("tcp_host_orphans", "tcp_host_orphans_limit")],
  TcpMemoryHigh: [
    {
      of: "the limit is 0",
      series: {
        tcp_host_memory_bytes: always(5),
        'tcp_host_memory_limit_bytes{threshold="pressure"}': always(1000),
        'tcp_host_memory_limit_bytes{threshold="high"}': always(0),
      },
    },
  ],
  TcpServerCapacityHigh: [unlimited("tcp_server_connections", "tcp_server_connections_limit")],
  TcpNewConnectionsHigh: [
    {
      of: "it is this host that connects",
      series: { 'tcp_host_connections_opened_total{by="active"}': steady(600_000) },
    },
  ],
  TcpvitalsDown: [
    {
      of: "it is another job's target",
      series: { 'up{job="node"}': always(0), 'up{job="tcpvitals-old"}': always(0) },
    },
  ],
  TcpvitalsFeatureMissing: [
    {
      of: "the feature is one that nobody asked for",
      series: { 'tcpvitals_feature_available{feature="event_buffer_forced"}': always(0) },
    },
  ],
  TcpvitalsLimitReached: [
    {
      of: "a namespace could not be opened",
      series: { 'tcpvitals_namespaces_unwatched{reason="unopened"}': always(2) },
    },
  ],
};
