// Recording and alert rules: the one source of tcpvitals.rules.yml.
//
// Plain data; Prometheus evaluates a group from top to bottom. Every ratio is a quotient of rates,
// never an average of ratios, and has no sample where its denominator did not move: an idle host
// cannot fire.
//
// Of the three names operators know, tcp_retrans and tcp_rtt are recorded here; tcp_conntrack_count is
// exported by the agent under that very name and needs no rule.

export type Severity = "critical" | "warning" | "info";

export interface RecordingRule {
  record: string;
  expr: string;
}

export interface AlertRule {
  alert: string; // the runbook is docs/runbooks/<alert>.md
  expr: string;
  for?: string;
  labels: { severity: Severity };
  annotations: { summary: string; description: string; runbook_url: string };
}

export type Rule = RecordingRule | AlertRule;

interface AlertText {
  expr: string;
  for?: string;
  summary: string; // one static sentence
  description: string; // a template, with the values
}

export interface RuleGroup {
  name: string;
  rules: Rule[];
}

// Where runbook links point unless the generator is told otherwise (--runbooks).
export const kRunbooks = "https://tcpvitals.example/runbooks";

// The scrape job, alone or behind a namespace as the Prometheus operator writes it.
const kUp = `up{job=~"(.*/)?tcpvitals"}`;

// Segments per second below which a ratio says more about chance than about the network.
const kTrafficFloor = 10;

// Attempts to connect per second below which a share of them says nothing: sixty in five minutes.
const kAttemptFloor = 0.2;

// Labels that tell groups of one host apart, but for the peer's.
const kPlace = "direction, port, cgroup, netns";

// Whom a description is about. A label that the configuration does not group by is not there.
const ifThere = (label: string, text: string): string =>
  `{{ with $labels.${label} }}${text}{{ end }}`;
const kNamespace = ifThere("netns", ", network namespace {{ . }}");
const kHost = `{{ $labels.instance }}${kNamespace}`;
const kGroup = [
  "{{ $labels.instance }}",
  ifThere("direction", ", {{ . }}"),
  ifThere("port", ", port {{ . }}"),
  ifThere("peer", ", {{ . }} peers"),
  ifThere("cgroup", ", cgroup {{ . }}"),
  kNamespace,
].join("");
const kListener = `{{ $labels.instance }}, {{ $labels.address }} port {{ $labels.port }}${kNamespace}`;

export function ruleGroups(runbooks: string = kRunbooks): RuleGroup[] {
  const alert = (name: string, severity: Severity, rule: AlertText): AlertRule => ({
    alert: name,
    expr: rule.expr,
    ...(rule.for && { for: rule.for }),
    labels: { severity },
    annotations: {
      summary: rule.summary,
      description: rule.description,
      runbook_url: `${runbooks}/${name}.md`,
    },
  });

  // One alert at several severities: Alertmanager mutes the lower ones by name.
  const tiers = (
    name: string,
    limits: Partial<Record<Severity, number>>,
    rule: (limit: number) => AlertText,
  ): AlertRule[] =>
    Object.entries(limits).map(([severity, limit]) =>
      alert(name, severity as Severity, rule(limit)),
    );

  const hostRetransmits = (window: string, above: number): string =>
    `host:tcp_retransmits:ratio_rate${window} > ${above}
and
rate(tcp_host_segments_sent_total[${window}]) > ${kTrafficFloor}`;

  const nearlyFull = (count: string, limit: string, above: number): string =>
    `${count} / (${limit} > 0) > ${above}`;

  return [
    {
      name: "tcpvitals-network", // one group: its alerts see the ratios of their own evaluation
      rules: [
        // Retransmitted per original segment; acknowledgements count as segments too.
        ...["5m", "30m", "1h"].map((window) => ({
          record: `host:tcp_retransmits:ratio_rate${window}`,
          expr: `rate(tcp_host_segments_retransmitted_total[${window}])
/
(rate(tcp_host_segments_sent_total[${window}]) > 0)`,
        })),
        // The share of a group's data segments that were repeats. SYNs carry no data and have a ratio of
        // their own; a FIN that is sent again without data is in the numerator alone, hence the bounds.
        ...["5m", "30m", "1h"].map((window) => ({
          record: `group:tcp_retransmits:ratio_rate${window}`,
          expr: `clamp(
(rate(tcp_retransmitted_segments_total[${window}]) - rate(tcp_retransmitted_syns_total[${window}]))
/
(rate(tcp_data_segments_sent_total[${window}]) > 0), 0, 1)`,
        })),
        // Of a group's SYN and SYN-ACK segments, those that were retransmissions.
        {
          record: "group:tcp_syn_retransmits:ratio_rate5m",
          expr: `rate(tcp_retransmitted_syns_total[5m])
/
(rate(tcp_syns_sent_total[5m]) > 0)`,
        },
        // Each ends in a connection or a failure; inbound groups have no failures and no sample.
        {
          record: "group:tcp_connect_attempts:rate5m",
          expr: `rate(tcp_connections_opened_total[5m])
+
sum without (reason) (rate(tcp_connection_failures_total[5m]))`,
        },
        { record: "tcp_retrans", expr: "host:tcp_retransmits:ratio_rate5m" },
        // The median per peer group: loopback's microseconds must not hide the internet's.
        {
          record: "tcp_rtt",
          expr: `histogram_quantile(0.5, sum without (${kPlace}) (rate(tcp_rtt_seconds_bucket[5m]))) > 0`,
        },
        alert("TcpRetransmitsHigh", "critical", {
          expr: hostRetransmits("5m", 0.05),
          for: "5m",
          summary: "More than 5 % of TCP segments are retransmitted.",
          description: `${kHost}: {{ $value | humanizePercentage }} of segments retransmitted over 5 minutes.`,
        }),
        alert("TcpRetransmitsHigh", "warning", {
          expr: hostRetransmits("5m", 0.01),
          for: "10m",
          summary: "More than 1 % of TCP segments are retransmitted.",
          description: `${kHost}: {{ $value | humanizePercentage }} of segments retransmitted over 5 minutes.`,
        }),
        alert("TcpRetransmitsHigh", "info", {
          expr: hostRetransmits("1h", 0.01),
          for: "30m",
          summary: "More than 1 % of TCP segments were retransmitted over the last hour.",
          description: `${kHost}: {{ $value | humanizePercentage }} of segments retransmitted over an hour.`,
        }),
        alert("TcpGroupRetransmitsHigh", "warning", {
          expr: `group:tcp_retransmits:ratio_rate5m > 0.05
and
rate(tcp_data_segments_sent_total[5m]) > ${kTrafficFloor}`,
          for: "10m",
          summary: "More than 5 % of one service's data segments are retransmitted.",
          description: `${kGroup}: {{ $value | humanizePercentage }} of data segments retransmitted over 5 minutes.`,
        }),
        alert("TcpSynRetransmitsHigh", "warning", {
          expr: `rate(tcp_host_syn_retransmits_total[5m])
/
(rate(tcp_host_syn_retransmits_total[5m])
+
sum without (by) (rate(tcp_host_connections_opened_total[5m]))) > 0.05
and
rate(tcp_host_syn_retransmits_total[5m]) > 1`,
          for: "10m",
          summary: "Many SYN or SYN-ACK segments are retransmitted: connections open late or not at all.",
          description: `${kHost}: {{ $value | humanizePercentage }} of SYN and SYN-ACK segments were retransmissions over 5 minutes.`,
        }),
        alert("TcpConnectFailuresHigh", "warning", {
          expr: `sum without (reason) (rate(tcp_connection_failures_total[5m]))
/
(group:tcp_connect_attempts:rate5m > ${kAttemptFloor}) > 0.05`,
          for: "10m",
          summary: "More than 5 % of connection attempts to one service fail.",
          description: `${kGroup}: {{ $value | humanizePercentage }} of connection attempts failed over 5 minutes.`,
        }),
      ],
    },
    {
      name: "tcpvitals-host",
      rules: [
        ...tiers("TcpListenDrops", { critical: 5, warning: 1 }, (limit) => ({
          expr: `rate(tcp_host_listen_drops_total[5m]) > ${limit}`,
          for: "5m",
          summary: "The kernel drops incoming connections.",
          description: `${kHost}: {{ $value | printf "%.1f" }} incoming connections dropped per second.`,
        })),
        // Looked at ten times a second: full for a tenth of the time, and the kernel did drop.
        alert("TcpListenQueueNearlyFull", "critical", {
          expr: `rate(tcp_listener_queue_full_total[5m]) > 1
and on (job, instance, netns)
rate(tcp_host_listen_overflows_total[5m]) > 0`,
          for: "5m",
          summary: "An accept queue is full: the kernel drops incoming connections.",
          description: `${kListener}: accept queue full in {{ $value | printf "%.1f" }} of 10 checks per second.`,
        }),
        alert("TcpListenQueueNearlyFull", "warning", {
          expr: nearlyFull("tcp_listener_queue_peak", "tcp_listener_queue_limit", 0.8),
          for: "5m",
          summary: "An accept queue is nearly full: the server does not accept fast enough.",
          description: `${kListener}: accept queue peaked at {{ $value | humanizePercentage }} of its limit in the last minute.`,
        }),
        alert("TcpCloseWaitLeak", "warning", {
          expr: "tcp_close_wait_old_connections > 0",
          for: "10m",
          summary: "A program does not close connections that the peer has closed.",
          description: `${kGroup}: {{ $value }} connections stay in CLOSE_WAIT.`,
        }),
        alert("TcpEphemeralPortsNearlyFull", "warning", {
          expr: `tcp_ephemeral_ports_used
/ on (job, instance, netns) group_left ()
(tcp_ephemeral_ports_limit > 0) > 0.8`,
          for: "5m",
          summary: "Local ports for one destination are running out; without a free one, connect() fails.",
          description: `${kGroup}: one destination uses {{ $value | humanizePercentage }} of the local ports.`,
        }),
        ...tiers("TcpConntrackNearlyFull", { critical: 0.9, warning: 0.75 }, (share) => ({
          expr: nearlyFull("tcp_conntrack_count", "tcp_conntrack_limit", share),
          for: "5m",
          summary:
            "The connection tracking table is nearly full; when it is full, new connections are dropped.",
          description: `${kHost}: {{ $value | humanizePercentage }} of the connection tracking table in use.`,
        })),
        ...tiers("TcpOrphansHigh", { critical: 0.5, warning: 0.25 }, (share) => ({
          expr: nearlyFull("tcp_host_orphans", "tcp_host_orphans_limit", share),
          for: "5m",
          summary: "Many closed sockets are not finished (orphans); at the limit the kernel resets them.",
          description: `${kHost}: {{ $value | humanizePercentage }} of the limit of orphaned sockets.`,
        })),
        alert("TcpMemoryHigh", "critical", {
          expr: `tcp_host_memory_bytes
/ ignoring (threshold)
(tcp_host_memory_limit_bytes{threshold="high"} > 0) > 0.9`,
          for: "1m",
          summary:
            "TCP memory is nearly used up; at the limit the kernel drops data and connections.",
          description: `${kHost}: {{ $value | humanizePercentage }} of the TCP memory limit in use.`,
        }),
        alert("TcpMemoryHigh", "warning", {
          expr: `tcp_host_memory_bytes
> ignoring (threshold)
tcp_host_memory_limit_bytes{threshold="pressure"}`,
          for: "5m",
          summary: "TCP is under memory pressure: the kernel shrinks socket buffers.",
          description: `${kHost}: {{ $value | humanize1024 }}B of TCP memory in use, above the pressure threshold.`,
        }),
        alert("TcpNewConnectionsHigh", "warning", {
          expr: `rate(tcp_host_connections_opened_total{by="passive"}[2m]) > 5000`,
          for: "1m",
          summary: "More than 5000 new connections per second: a flood, or time to scale out.",
          description: `${kHost}: {{ $value | printf "%.0f" }} incoming connections opened per second.`,
        }),
        alert("TcpServerCapacityHigh", "warning", {
          expr: nearlyFull("tcp_server_connections", "tcp_server_connections_limit", 0.8),
          for: "5m",
          summary: "The embedded TCP server is close to its connection limit.",
          description: `${kHost}, listener {{ $labels.listener }}: {{ $value | humanizePercentage }} of the connection limit in use.`,
        }),
        ...tiers("TcpServerCertificateExpires", { critical: 2, warning: 14 }, (days) => ({
          expr: `tcp_server_tls_certificate_expiry_timestamp_seconds - time() < ${days} * 86400`,
          for: "15m",
          summary: "A certificate of the embedded TCP server expires soon.",
          description: `${kHost}, listener {{ $labels.listener }}: the certificate expires in {{ $value | humanizeDuration }}.`,
        })),
        alert("TcpServerCertificateUnusable", "critical", {
          expr: "tcp_server_tls_files_usable == 0",
          for: "2m",
          summary: "The certificate files of a listener cannot be used: what was loaded before serves, or the listener is closed.",
          description: `${kHost}, listener {{ $labels.listener }}: the certificate files cannot be used; the agent's log names the file and the reason.`,
        }),
      ],
    },
    {
      name: "tcpvitals-agent",
      rules: [
        alert("TcpvitalsDown", "critical", {
          expr: `${kUp} == 0`,
          for: "5m",
          summary: "Prometheus cannot scrape the agent: there is no data about this host's connections.",
          description: `${kHost}: no successful scrape for 5 minutes.`,
        }),
        alert("TcpvitalsAbsent", "critical", {
          expr: `absent(${kUp})`,
          for: "15m",
          summary: "Prometheus has no tcpvitals target at all.",
          description:
            "No scrape target has the job tcpvitals: check service discovery and the scrape configuration.",
        }),
        alert("TcpvitalsCollectorFailed", "warning", {
          expr: "tcpvitals_collector_success == 0",
          for: "10m",
          summary: "A collector fails: its metrics are missing.",
          description: `${kHost}: collector {{ $labels.collector }} has failed for 10 minutes; the agent's log says why.`,
        }),
        alert("TcpvitalsMetricsRejected", "warning", {
          expr: "increase(tcpvitals_metrics_rejected_total[15m]) > 0",
          summary: "The agent left out invalid or duplicate metrics.",
          description: `${kHost}: collector {{ $labels.collector }} has metrics that are missing; the agent's log names them.`,
        }),
        alert("TcpvitalsConfigNotReloaded", "warning", {
          expr: "tcpvitals_config_last_reload_successful == 0",
          for: "10m",
          summary: "The configuration file is invalid: the previous configuration is in force.",
          description: `${kHost}: the last reload failed; the agent's log says why.`,
        }),
        // Without its privilege the event buffer is only smaller; these two were asked for.
        alert("TcpvitalsFeatureMissing", "info", {
          expr: `tcpvitals_feature_available{feature=~"cgroup_names|netns"} == 0`,
          for: "10m",
          summary: "A configured feature of the agent is not available.",
          description: `${kHost}: {{ $labels.feature }} is configured, and not available; the agent's log says why.`,
        }),
        alert("TcpvitalsEventsLost", "warning", {
          expr: `increase(tcpvitals_connection_events_lost_total[15m]) > 0
or
increase(tcpvitals_event_overruns_total[15m]) > 0`,
          summary: "Close events were lost: the counters of connections are too low.",
          description: `${kHost}: the kernel's event buffer overflowed within the last 15 minutes.`,
        }),
        alert("TcpvitalsAuditFailing", "warning", {
          expr: `increase(tcpvitals_audit_lines_lost_total[15m]) > 0
or
increase(tcpvitals_audit_write_errors_total[15m]) > 0`,
          summary: "The audit log lost lines, or writing to it failed.",
          description: `${kHost}: the audit log lost lines or had write errors within the last 15 minutes; the agent's log says why.`,
        }),
        alert("TcpvitalsLimitReached", "warning", {
          expr: `increase(tcpvitals_series_dropped_total[15m]) > 0
or
increase(tcpvitals_groups_overflowed_total[15m]) > 0
or
increase(tcpvitals_cgroups_overflowed_total[15m]) > 0
or
sum without (reason) (tcpvitals_namespaces_unwatched{reason="limit"}) > 0
or
tcpvitals_listeners_left_out > 0
or
tcpvitals_untracked_connections > 0`,
          summary: "The agent reached one of its limits: data was merged or left out.",
          description: `${kHost}: too many series, groups, cgroups, namespaces, listeners or connections: {{ $value | humanize }} over the limit.`,
        }),
      ],
    },
  ];
}
