// What each alert must do with which series: the unit tests of the rules.
//
// Series are in promtool's notation, one sample a minute: "0+60x30" starts at 0 and grows by 60 thirty
// times. Those that name no job get job="tcpvitals", instance="db1", and so do the alerts expected.

import type { Severity } from "./rules.js";

export interface Case {
  kind: "firing" | "quiet" | "idle" | "reset";
  series: Record<string, string>;
  at: number; // minutes
  fires?: Partial<Record<Severity, string>>; // the description it must come with; the others stay silent
  labels?: Record<string, string>; // of the alert, besides severity, job and instance
}

const kGroup = `direction="inbound",port="443",peer="public"`;
const kGroupLabels = { direction: "inbound", port: "443", peer: "public" };
const kOutbound = `direction="outbound",port="5432",peer="private"`;
const kOutboundLabels = { direction: "outbound", port: "5432", peer: "private" };
const kListener = `address="0.0.0.0",port="443"`;
const kListenerLabels = { address: "0.0.0.0", port: "443" };

const host = (sent: string, retransmitted: string): Record<string, string> => ({
  tcp_host_segments_sent_total: sent,
  tcp_host_segments_retransmitted_total: retransmitted,
});
const group = (sent: string, retransmitted: string, syns = "0x30"): Record<string, string> => ({
  [`tcp_data_segments_sent_total{${kGroup}}`]: sent,
  [`tcp_retransmitted_segments_total{${kGroup}}`]: retransmitted,
  [`tcp_retransmitted_syns_total{${kGroup}}`]: syns,
});
const handshakes = (active: string, passive: string, repeated: string): Record<string, string> => ({
  'tcp_host_connections_opened_total{by="active"}': active,
  'tcp_host_connections_opened_total{by="passive"}': passive,
  tcp_host_syn_retransmits_total: repeated,
});
// Found full on listeners of two namespaces, where only one drops.
const fullQueues = (full: string): Record<string, string> => ({
  [`tcp_listener_queue_full_total{${kListener},netns="host"}`]: full,
  [`tcp_listener_queue_full_total{${kListener},netns="web"}`]: full,
  'tcp_host_listen_overflows_total{netns="host"}': "0x30",
  'tcp_host_listen_overflows_total{netns="web"}': "0+600x30",
});
const attempts = (opened: string, failed: Record<string, string>): Record<string, string> => ({
  [`tcp_connections_opened_total{${kOutbound}}`]: opened,
  ...Object.fromEntries(
    Object.entries(failed).map(([reason, values]) => [
      `tcp_connection_failures_total{${kOutbound},reason="${reason}"}`,
      values,
    ]),
  ),
});
const closeWait = (labels: string, old: string): Record<string, string> => ({
  [`tcp_close_wait_old_connections{${labels}}`]: old,
});
// From minute 10 on it may be another one.
const expiry = (first: number, second = first): Record<string, string> => ({
  'tcp_server_tls_certificate_expiry_timestamp_seconds{listener="echo"}': `${first}x9 ${second}x20`,
});
const audit = (errors: string, lost: string): Record<string, string> => ({
  tcpvitals_audit_write_errors_total: errors,
  tcpvitals_audit_lines_lost_total: lost,
});
const kAuditFailing =
  "db1: the audit log lost lines or had write errors within the last 15 minutes; the agent's log says why.";
const ports = (labels: string, used: number, most: number, netns = ""): Record<string, string> =>
  netns === ""
    ? share(`tcp_ephemeral_ports_used{${labels}}`, used, "tcp_ephemeral_ports_limit", most)
    : share(
        `tcp_ephemeral_ports_used{${labels},netns="${netns}"}`,
        used,
        `tcp_ephemeral_ports_limit{netns="${netns}"}`,
        most,
      );
const queue = (peak: number, limit: number): Record<string, string> => ({
  [`tcp_listener_queue_peak{${kListener}}`]: `${peak}x30`,
  [`tcp_listener_queue_limit{${kListener}}`]: `${limit}x30`,
});
const share = (
  gauge: string,
  used: number,
  limit: string,
  most: number,
): Record<string, string> => ({
  [gauge]: `${used}x30`,
  [limit]: `${most}x30`,
});
const conntrack = (used: number, most: number): Record<string, string> =>
  share("tcp_conntrack_count", used, "tcp_conntrack_limit", most);
const orphans = (used: number, most: number): Record<string, string> =>
  share("tcp_host_orphans", used, "tcp_host_orphans_limit", most);
const memory = (used: number, pressure: number, most: number): Record<string, string> => ({
  tcp_host_memory_bytes: `${used}x30`,
  'tcp_host_memory_limit_bytes{threshold="low"}': "1x30",
  'tcp_host_memory_limit_bytes{threshold="pressure"}': `${pressure}x30`,
  'tcp_host_memory_limit_bytes{threshold="high"}': `${most}x30`,
});
const connections = (live: number, most: number): Record<string, string> => ({
  'tcp_server_connections{listener="echo"}': `${live}x30`,
  'tcp_server_connections_limit{listener="echo"}': `${most}x30`,
});
const collector = (success: number, available: number): Record<string, string> => ({
  'tcpvitals_collector_success{collector="snmp"}': `${success}x30`,
  'tcpvitals_collector_available{collector="snmp"}': `${available}x30`,
});

const beyond = (count: string): string =>
  `db1: too many series, groups, cgroups, namespaces, listeners or connections: ${count} over the limit.`;

// Three minutes of 12 % loss, ten minutes of none, over and over.
const kBursts = Array.from({ length: 7 }, (_, i) => `${i * 2160}+720x2 ${(i + 1) * 2160}+0x9`).join(
  " ",
);

export const kCases: Record<string, Case[]> = {
  TcpRetransmitsHigh: [
    {
      kind: "firing",
      series: host("0+6000x30", "0+120x30"),
      at: 20,
      fires: { warning: "db1: 2% of segments retransmitted over 5 minutes." },
    },
    {
      kind: "firing",
      series: host("0+6000x30", "0+480x30"),
      at: 20,
      fires: {
        critical: "db1: 8% of segments retransmitted over 5 minutes.",
        warning: "db1: 8% of segments retransmitted over 5 minutes.",
      },
    },
    {
      kind: "firing",
      series: host("0+6000x90", kBursts),
      at: 76,
      fires: { info: "db1: 2.4% of segments retransmitted over an hour." },
    },
    {
      kind: "firing", // of two network namespaces, the one that loses: they are not mixed
      series: {
        'tcp_host_segments_sent_total{netns="host"}': "0+600000x30",
        'tcp_host_segments_retransmitted_total{netns="host"}': "0+60x30",
        'tcp_host_segments_sent_total{netns="web"}': "0+6000x30",
        'tcp_host_segments_retransmitted_total{netns="web"}': "0+120x30",
      },
      at: 20,
      fires: {
        warning:
          "db1, network namespace web: 2% of segments retransmitted over 5 minutes.",
      },
      labels: { netns: "web" },
    },
    { kind: "quiet", series: host("0+6000x90", "0+50x90"), at: 90 },
    { kind: "idle", series: host("0+60x90", "0+30x90"), at: 90 },
    { kind: "idle", series: host("7000x90", "500x90"), at: 90 },
    { kind: "reset", series: host("900000+6000x20 0+6000x20", "9000+0x20 20+0x20"), at: 30 },
  ],
  TcpGroupRetransmitsHigh: [
    {
      kind: "firing",
      series: group("0+6000x30", "0+900x30", "0+300x30"),
      at: 20,
      fires: {
        warning:
          "db1, inbound, port 443, public peers: 10% of data segments retransmitted over 5 minutes.",
      },
      labels: kGroupLabels,
    },
    { kind: "quiet", series: group("0+6000x30", "0+240x30"), at: 30 },
    { kind: "idle", series: group("0+60x30", "0+30x30"), at: 30 },
    { kind: "reset", series: group("900000+6000x15 0+6000x15", "90000+0x15 20+0x15"), at: 25 },
  ],
  TcpSynRetransmitsHigh: [
    {
      kind: "firing",
      series: handshakes("0+540x30", "0+540x30", "0+120x30"),
      at: 20,
      fires: { warning: "db1: 10% of SYN and SYN-ACK segments were retransmissions over 5 minutes." },
    },
    { kind: "quiet", series: handshakes("0+6000x30", "0+6000x30", "0+120x30"), at: 30 },
    { kind: "idle", series: handshakes("0+1x30", "0x30", "0+6x30"), at: 30 },
    {
      kind: "reset",
      series: handshakes("9000+6000x15 0+6000x15", "9000+6000x15 0+6000x15", "9000+0x15 20+0x15"),
      at: 25,
    },
  ],
  TcpConnectFailuresHigh: [
    {
      kind: "firing",
      series: attempts("0+90x30", { refused: "0+5x30", unanswered: "0+5x30" }),
      at: 20,
      fires: {
        warning:
          "db1, outbound, port 5432, private peers: 10% of connection attempts failed over 5 minutes.",
      },
      labels: kOutboundLabels,
    },
    {
      kind: "firing", // grouped by something else: each cgroup by itself
      series: {
        'tcp_connections_opened_total{cgroup="web.service",netns="host"}': "0x30",
        'tcp_connection_failures_total{cgroup="web.service",netns="host",reason="refused"}':
          "0+30x30",
        'tcp_connections_opened_total{cgroup="db.service",netns="host"}': "0+60x30",
        'tcp_connection_failures_total{cgroup="db.service",netns="host",reason="refused"}': "0x30",
      },
      at: 20,
      fires: {
        warning:
          "db1, cgroup web.service, network namespace host: 100% of connection attempts failed over 5 minutes.",
      },
      labels: { cgroup: "web.service", netns: "host" },
    },
    { kind: "quiet", series: attempts("0+60x30", { refused: "0+2x30", unanswered: "0+1x30" }), at: 30 },
    { kind: "idle", series: attempts("0x30", { refused: "0+6x30", unanswered: "0+6x30" }), at: 30 },
    { kind: "idle", series: attempts("70x30", { refused: "70x30", unanswered: "70x30" }), at: 30 },
    {
      kind: "reset",
      series: attempts("9000+60x15 0+60x15", { refused: "9000+0x15 5+0x15" }),
      at: 25,
    },
  ],
  TcpListenDrops: [
    {
      kind: "firing",
      series: { tcp_host_listen_drops_total: "0+120x30" },
      at: 15,
      fires: { warning: "db1: 2.0 incoming connections dropped per second." },
    },
    {
      kind: "firing",
      series: { tcp_host_listen_drops_total: "0+600x30" },
      at: 15,
      fires: {
        critical: "db1: 10.0 incoming connections dropped per second.",
        warning: "db1: 10.0 incoming connections dropped per second.",
      },
    },
    { kind: "quiet", series: { tcp_host_listen_drops_total: "0+30x30" }, at: 30 },
    { kind: "idle", series: { tcp_host_listen_drops_total: "4711x30" }, at: 30 },
    { kind: "reset", series: { tcp_host_listen_drops_total: "90000+0x10 40+0x20" }, at: 20 },
  ],
  TcpListenQueueNearlyFull: [
    {
      kind: "firing",
      series: queue(120, 128),
      at: 10,
      fires: {
        warning:
          "db1, 0.0.0.0 port 443: accept queue peaked at 93.75% of its limit in the last minute.",
      },
      labels: kListenerLabels,
    },
    {
      kind: "firing",
      series: fullQueues("0+120x30"),
      at: 15,
      fires: {
        critical:
          "db1, 0.0.0.0 port 443, network namespace web: accept queue full in 2.0 of 10 checks per second.",
      },
      labels: { ...kListenerLabels, netns: "web" },
    },
    { kind: "quiet", series: queue(64, 128), at: 30 },
    { kind: "quiet", series: fullQueues("0+30x30"), at: 30 },
    { kind: "idle", series: queue(0, 128), at: 30 },
    { kind: "idle", series: queue(0, 0), at: 30 },
    { kind: "reset", series: fullQueues("90000+0x10 40+0x20"), at: 20 },
  ],
  TcpCloseWaitLeak: [
    {
      kind: "firing",
      series: closeWait(kOutbound, "0x5 3x25"),
      at: 20,
      fires: {
        warning:
          "db1, outbound, port 5432, private peers: 3 connections stay in CLOSE_WAIT.",
      },
      labels: kOutboundLabels,
    },
    {
      kind: "firing",
      series: closeWait(`${kOutbound},cgroup="web.service",netns="host"`, "3x30"),
      at: 20,
      fires: {
        warning:
          "db1, outbound, port 5432, private peers, cgroup web.service, network namespace host: 3 connections stay in CLOSE_WAIT.",
      },
      labels: { ...kOutboundLabels, cgroup: "web.service", netns: "host" },
    },
    { kind: "quiet", series: closeWait(kOutbound, "0x10 3x10 0x10"), at: 20 }, // the ninth minute
    { kind: "idle", series: closeWait(kOutbound, "0x30"), at: 30 },
  ],
  TcpEphemeralPortsNearlyFull: [
    {
      kind: "firing",
      series: ports(kOutbound, 900, 1000),
      at: 10,
      fires: {
        warning:
          "db1, outbound, port 5432, private peers: one destination uses 90% of the local ports.",
      },
      labels: kOutboundLabels,
    },
    {
      kind: "firing", // each group against the limit of its own namespace
      series: {
        ...ports(kOutbound, 9, 10, "web"),
        ...ports(kOutbound, 700, 1000, "host"),
      },
      at: 10,
      fires: {
        warning:
          "db1, outbound, port 5432, private peers, network namespace web: one destination uses 90% of the local ports.",
      },
      labels: { ...kOutboundLabels, netns: "web" },
    },
    { kind: "quiet", series: ports(kOutbound, 700, 1000), at: 30 },
    { kind: "idle", series: ports(kOutbound, 0, 1000), at: 30 },
    { kind: "idle", series: ports(kOutbound, 0, 0), at: 30 },
  ],
  TcpConntrackNearlyFull: [
    {
      kind: "firing",
      series: conntrack(800, 1000),
      at: 10,
      fires: { warning: "db1: 80% of the connection tracking table in use." },
    },
    {
      kind: "firing",
      series: conntrack(950, 1000),
      at: 10,
      fires: {
        critical: "db1: 95% of the connection tracking table in use.",
        warning: "db1: 95% of the connection tracking table in use.",
      },
    },
    { kind: "quiet", series: conntrack(700, 1000), at: 30 },
    { kind: "idle", series: conntrack(0, 1000), at: 30 },
    { kind: "idle", series: conntrack(0, 0), at: 30 },
  ],
  TcpOrphansHigh: [
    {
      kind: "firing",
      series: orphans(300, 1000),
      at: 10,
      fires: { warning: "db1: 30% of the limit of orphaned sockets." },
    },
    {
      kind: "firing",
      series: orphans(600, 1000),
      at: 10,
      fires: {
        critical: "db1: 60% of the limit of orphaned sockets.",
        warning: "db1: 60% of the limit of orphaned sockets.",
      },
    },
    { kind: "quiet", series: orphans(200, 1000), at: 30 },
    { kind: "idle", series: orphans(0, 1000), at: 30 },
  ],
  TcpMemoryHigh: [
    {
      kind: "firing",
      series: memory(3 << 20, 2 << 20, 4 << 20),
      at: 10,
      fires: { warning: "db1: 3MiB of TCP memory in use, above the pressure threshold." },
    },
    {
      kind: "firing",
      series: memory(95, 70, 100),
      at: 10,
      fires: {
        critical: "db1: 95% of the TCP memory limit in use.",
        warning: "db1: 95B of TCP memory in use, above the pressure threshold.",
      },
    },
    { kind: "quiet", series: memory(60, 70, 100), at: 30 },
    { kind: "idle", series: memory(0, 70, 100), at: 30 },
  ],
  TcpNewConnectionsHigh: [
    {
      kind: "firing",
      series: handshakes("0x30", "0+360000x30", "0x30"),
      at: 10,
      fires: { warning: "db1: 6000 incoming connections opened per second." },
      labels: { by: "passive" },
    },
    { kind: "quiet", series: handshakes("0+360000x30", "0+270000x30", "0x30"), at: 30 },
    { kind: "idle", series: handshakes("0x30", "0x30", "0x30"), at: 30 },
    { kind: "reset", series: handshakes("0x30", "9000000+600x10 0+600x20", "0x30"), at: 13 },
  ],
  TcpServerCapacityHigh: [
    {
      kind: "firing",
      series: connections(900, 1000),
      at: 10,
      fires: { warning: "db1, listener echo: 90% of the connection limit in use." },
      labels: { listener: "echo" },
    },
    { kind: "quiet", series: connections(700, 1000), at: 30 },
    { kind: "idle", series: connections(0, 1000), at: 30 },
  ],
  TcpServerCertificateExpires: [
    {
      kind: "firing",
      series: expiry(10 * 86400),
      at: 20,
      fires: { warning: "db1, listener echo: the certificate expires in 9d 23h 40m 0s." },
      labels: { listener: "echo" },
    },
    {
      kind: "firing",
      series: expiry(86400),
      at: 20,
      fires: {
        critical: "db1, listener echo: the certificate expires in 23h 40m 0s.",
        warning: "db1, listener echo: the certificate expires in 23h 40m 0s.",
      },
      labels: { listener: "echo" },
    },
    { kind: "quiet", series: expiry(15 * 86400), at: 30 },
    { kind: "idle", series: connections(0, 1000), at: 30 }, // a listener without TLS
    // A new one was put in its place in time.
    { kind: "quiet", series: expiry(86400, 90 * 86400), at: 20 },
  ],
  TcpvitalsDown: [
    {
      kind: "firing",
      series: { up: "0x30" },
      at: 10,
      fires: { critical: "db1: no successful scrape for 5 minutes." },
    },
    { kind: "quiet", series: { up: "1x30" }, at: 30 },
    { kind: "quiet", series: { 'up{job="node",instance="db1"}': "0x30", up: "1x30" }, at: 30 },
  ],
  TcpvitalsAbsent: [
    {
      kind: "firing",
      series: { 'up{job="node",instance="db1"}': "1x30" },
      at: 20,
      fires: {
        critical:
          "No scrape target has the job tcpvitals: check service discovery and the scrape configuration.",
      },
      labels: { job: "", instance: "" },
    },
    { kind: "quiet", series: { up: "0x30" }, at: 30 },
    { kind: "quiet", series: { 'up{job="monitoring/tcpvitals",instance="db1"}': "1x30" }, at: 30 },
  ],
  TcpvitalsCollectorFailed: [
    {
      kind: "firing",
      series: collector(0, 1),
      at: 15,
      fires: {
        warning: "db1: collector snmp has failed for 10 minutes; the agent's log says why.",
      },
      labels: { collector: "snmp" },
    },
    { kind: "quiet", series: collector(1, 1), at: 30 },
    { kind: "quiet", series: collector(1, 0), at: 30 }, // this kernel does not have it
  ],
  TcpvitalsMetricsRejected: [
    {
      kind: "firing",
      series: { 'tcpvitals_metrics_rejected_total{collector="snmp"}': "0x10 1+1x20" },
      at: 15,
      fires: {
        warning: "db1: collector snmp has metrics that are missing; the agent's log names them.",
      },
      labels: { collector: "snmp" },
    },
    { kind: "quiet", series: { 'tcpvitals_metrics_rejected_total{collector="snmp"}': "7x30" }, at: 30 },
    {
      kind: "reset",
      series: { 'tcpvitals_metrics_rejected_total{collector="snmp"}': "7x10 0x20" },
      at: 15,
    },
  ],
  TcpServerCertificateUnusable: [
    {
      kind: "firing",
      series: { 'tcp_server_tls_files_usable{listener="echo"}': "1x5 0x25" },
      at: 10,
      fires: {
        critical:
          "db1, listener echo: the certificate files cannot be used; the agent's log names the file and the reason.",
      },
      labels: { listener: "echo" },
    },
    // Two files that are replaced one after the other.
    { kind: "quiet", series: { 'tcp_server_tls_files_usable{listener="echo"}': "1x5 0 1x25" }, at: 6 },
    // No listener has TLS.
    { kind: "idle", series: {}, at: 20 },
  ],
  TcpvitalsConfigNotReloaded: [
    {
      kind: "firing",
      series: { tcpvitals_config_last_reload_successful: "1x5 0x25" },
      at: 20,
      fires: {
        warning: "db1: the last reload failed; the agent's log says why.",
      },
    },
    // The ninth minute.
    { kind: "quiet", series: { tcpvitals_config_last_reload_successful: "1x5 0x10 1x15" }, at: 15 },
  ],
  TcpvitalsFeatureMissing: [
    {
      kind: "firing",
      series: { 'tcpvitals_feature_available{feature="netns"}': "0x30" },
      at: 15,
      fires: {
        info: "db1: netns is configured, and not available; the agent's log says why.",
      },
      labels: { feature: "netns" },
    },
    {
      kind: "quiet",
      series: {
        'tcpvitals_feature_available{feature="cgroup_names"}': "1x30",
        'tcpvitals_feature_available{feature="event_buffer_forced"}': "0x30",
      },
      at: 30,
    },
  ],
  TcpvitalsEventsLost: [
    {
      kind: "firing",
      series: { tcpvitals_connection_events_lost_total: "0x10 7x20" },
      at: 15,
      fires: {
        warning: "db1: the kernel's event buffer overflowed within the last 15 minutes.",
      },
    },
    {
      kind: "firing",
      series: {
        tcpvitals_connection_events_lost_total: "0x30",
        tcpvitals_event_overruns_total: "0x10 1x20",
      },
      at: 15,
      fires: {
        warning: "db1: the kernel's event buffer overflowed within the last 15 minutes.",
      },
    },
    {
      kind: "quiet",
      series: {
        tcpvitals_connection_events_lost_total: "7x30",
        tcpvitals_event_overruns_total: "1x30",
      },
      at: 30,
    },
    {
      kind: "reset",
      series: {
        tcpvitals_connection_events_lost_total: "7x10 0x20",
        tcpvitals_event_overruns_total: "1x10 0x20",
      },
      at: 15,
    },
  ],
  TcpvitalsAuditFailing: [
    { kind: "firing", series: audit("0x30", "0x10 7x20"), at: 15, fires: { warning: kAuditFailing } },
    { kind: "firing", series: audit("0x10 600+600x20", "0x30"), at: 15, fires: { warning: kAuditFailing } },
    { kind: "quiet", series: audit("9x30", "7x30"), at: 30 }, // long ago
    { kind: "reset", series: audit("9x10 0x20", "7x10 0x20"), at: 15 },
  ],
  TcpvitalsLimitReached: [
    {
      kind: "firing",
      series: { 'tcpvitals_series_dropped_total{collector="connections"}': "0+10x30" },
      at: 20,
      fires: { warning: beyond("150") },
      labels: { collector: "connections" },
    },
    {
      kind: "firing",
      series: { tcpvitals_groups_overflowed_total: "0+10x30" },
      at: 20,
      fires: { warning: beyond("150") },
    },
    {
      kind: "firing",
      series: { tcpvitals_cgroups_overflowed_total: "0+10x30" },
      at: 20,
      fires: { warning: beyond("150") },
    },
    {
      kind: "firing", // from the start: nothing increases any more
      series: {
        'tcpvitals_namespaces_unwatched{reason="limit"}': "36x30",
        'tcpvitals_namespaces_unwatched{reason="unopened"}': "2x30",
      },
      at: 20,
      fires: { warning: beyond("36") },
    },
    {
      kind: "firing",
      series: { tcpvitals_untracked_connections: "0x10 7000x20" },
      at: 20,
      fires: { warning: beyond("7k") },
    },
    {
      kind: "quiet",
      series: {
        'tcpvitals_series_dropped_total{collector="connections"}': "70x30",
        tcpvitals_groups_overflowed_total: "70x30",
        tcpvitals_cgroups_overflowed_total: "70x30",
        'tcpvitals_namespaces_unwatched{reason="limit"}': "0x30",
        'tcpvitals_namespaces_unwatched{reason="unopened"}': "2x30",
        tcpvitals_untracked_connections: "0x30",
      },
      at: 30,
    },
    {
      kind: "reset",
      series: {
        'tcpvitals_series_dropped_total{collector="connections"}': "70x10 0x20",
        tcpvitals_groups_overflowed_total: "70x10 0x20",
        tcpvitals_cgroups_overflowed_total: "70x10 0x20",
      },
      at: 15,
    },
  ],
};
