// One host, from the top: how it is now; then rate, errors, duration, saturation; then where it happens.

import {
  type Limit,
  type Row,
  dashboard,
  gauge,
  heatmap,
  quantile,
  rate,
  ratio,
  stat,
  sum,
  sumBy,
  table,
  timeline,
  timeseries,
  units,
} from "./panels.js";

// All that a group can have; what the configuration does not group by stays empty.
const kGroup = "direction, port, peer, cgroup, netns";
const kGroupLegend = "{{direction}} {{port}} {{peer}} {{cgroup}} {{netns}}";

// The thresholds of TcpRetransmitsHigh.
const kRetransmitLimits: Limit[] = [
  [0.01, "orange"],
  [0.05, "red"],
];

const hostRetransmits = (by: string): string =>
  ratio(
    sumBy(by, rate("tcp_host_segments_retransmitted_total")),
    sumBy(by, rate("tcp_host_segments_sent_total")),
  );

// The share of data segments that were repeats. A FIN sent again without data is no data segment, and yet
// was retransmitted: no more than all.
const dataRetransmits = (repeats: string, sent: string): string =>
  `clamp(${ratio(repeats, sent)}, 0, 1)`;
const groupRetransmits = (by: string): string =>
  dataRetransmits(
    `(${sumBy(by, rate("tcp_retransmitted_segments_total"))} - ${sumBy(by, rate("tcp_retransmitted_syns_total"))})`,
    sumBy(by, rate("tcp_data_segments_sent_total")),
  );

// The part of the time with data outstanding in which it was not the network that sending waited for.
const limited = (matchers: string): string =>
  ratio(sum(rate("tcp_limited_seconds_total", matchers)), sum(rate("tcp_busy_seconds_total")));

const now: Row = {
  title: "Now",
  panels: [
    stat({
      title: "Established",
      description: "Connections that are open now.",
      unit: units.Short,
      width: 4,
      queries: [["established", sum(gauge("tcp_host_connections", 'state="established"'))]],
    }),
    stat({
      title: "Opened",
      description: "New connections per second, by either side.",
      unit: units.CountsPerSecond,
      width: 4,
      queries: [["opened", sum(rate("tcp_host_connections_opened_total"))]],
      limits: [[5000, "orange"]],
    }),
    stat({
      title: "Retransmitted",
      description: "Segments sent again, per segment sent. Above 1 % users notice.",
      unit: units.PercentUnit,
      width: 4,
      queries: [
        [
          "retransmitted",
          ratio(
            sum(rate("tcp_host_segments_retransmitted_total")),
            sum(rate("tcp_host_segments_sent_total")),
          ),
        ],
      ],
      limits: kRetransmitLimits,
    }),
    stat({
      title: "Round trip",
      description: "Half of the connections, and all but one of a hundred, are faster than this.",
      unit: units.Seconds,
      width: 6,
      queries: [
        ["p50", quantile(0.5, "tcp_rtt_seconds")],
        ["p99", quantile(0.99, "tcp_rtt_seconds")],
      ],
    }),
    stat({
      title: "Refused in the queue",
      description: "Incoming connections the kernel dropped because nobody accepted them in time.",
      unit: units.CountsPerSecond,
      width: 3,
      queries: [["dropped", sum(rate("tcp_host_listen_drops_total"))]],
      limits: [
        [1, "orange"],
        [5, "red"],
      ],
    }),
    stat({
      title: "Failed collectors",
      description: "Collectors whose metrics are missing from this page.",
      unit: units.Short,
      width: 3,
      queries: [["failed", sum(`1 - ${gauge("tcpvitals_collector_success")}`)]],
      limits: [[1, "red"]],
    }),
  ],
};

const rates: Row = {
  title: "Rate",
  panels: [
    timeseries({
      title: "Segments",
      description: "All TCP segments of the host; pure acknowledgements count.",
      unit: units.PacketsPerSecond,
      width: 8,
      queries: [
        ["sent", sum(rate("tcp_host_segments_sent_total"))],
        ["received", sum(rate("tcp_host_segments_received_total"))],
        ["retransmitted", sum(rate("tcp_host_segments_retransmitted_total"))],
      ],
    }),
    timeseries({
      title: "Connections opened and closed",
      description:
        "Every connection, however short. Opened and closed far apart for long: connections pile up.",
      unit: units.CountsPerSecond,
      width: 8,
      queries: [
        ["opened {{direction}}", sumBy("direction", rate("tcp_connections_opened_total"))],
        ["closed {{direction}}", sumBy("direction", rate("tcp_connections_closed_total"))],
      ],
    }),
    timeseries({
      title: "Payload",
      description: "Bytes the programs of this host sent and received, headers left out.",
      unit: units.BytesPerSecondSI,
      width: 8,
      queries: [
        ["sent {{direction}}", sumBy("direction", rate("tcp_sent_bytes_total"))],
        ["received {{direction}}", sumBy("direction", rate("tcp_received_bytes_total"))],
      ],
    }),
  ],
};

const errors: Row = {
  title: "Errors",
  panels: [
    timeseries({
      title: "Retransmit ratio of the host",
      description:
        "Segments sent again per segment sent (RetransSegs / OutSegs), of the ten worst network namespaces if those are watched. Acknowledgements dilute it. The lines are the alerts at 1 % and 5 %.",
      unit: units.PercentUnit,
      width: 12,
      queries: [["{{instance}} {{netns}}", `topk(10, ${hostRetransmits("instance, netns")})`]],
      lines: kRetransmitLimits,
    }),
    timeseries({
      title: "Retransmit ratio of the ten worst groups",
      description:
        "The share of data segments that were repeats; SYNs are left out. Not comparable with the host's ratio, which counts all segments.",
      unit: units.PercentUnit,
      width: 12,
      queries: [[kGroupLegend, `topk(10, ${groupRetransmits(kGroup)})`]],
      lines: kRetransmitLimits,
    }),
    timeseries({
      title: "Failures and resets",
      description:
        "Failed: connects refused or unanswered, either way. Reset: established connections that broke. Damaged: segments with errors.",
      unit: units.CountsPerSecond,
      width: 12,
      queries: [
        ["failed to connect", sum(rate("tcp_host_connect_failures_total"))],
        ["established, then reset", sum(rate("tcp_host_established_resets_total"))],
        ["resets sent", sum(rate("tcp_host_resets_sent_total"))],
        ["damaged segments", sum(rate("tcp_host_receive_errors_total"))],
      ],
    }),
    timeseries({
      title: "Handshakes and timeouts",
      description:
        "SYN retransmits: a peer does not answer. Overflows and drops: our servers do not accept fast enough. Timeouts: an acknowledgement never came.",
      unit: units.CountsPerSecond,
      width: 12,
      queries: [
        ["SYN retransmits", sum(rate("tcp_host_syn_retransmits_total"))],
        ["listen overflows", sum(rate("tcp_host_listen_overflows_total"))],
        ["listen drops", sum(rate("tcp_host_listen_drops_total"))],
        ["retransmission timeouts", sum(rate("tcp_host_timeouts_total"))],
      ],
    }),
    timeseries({
      title: "Failed attempts to connect",
      description:
        "Refused: nobody listens there. Timeout: nobody answers. Aborted: our program gave up first. Unknown: the kernel cleared the evidence.",
      unit: units.CountsPerSecond,
      width: 6,
      queries: [["{{reason}}", sumBy("reason", rate("tcp_connection_failures_total"))]],
      stacked: true,
    }),
    timeseries({
      title: "How connections ended",
      description:
        "Orderly: our FIN was acknowledged. Reset: by either side. Timeout: the peer stopped answering. Aborted: our program threw it away. Unknown: no event came.",
      unit: units.CountsPerSecond,
      width: 6,
      queries: [["{{how}}", sumBy("how", rate("tcp_connection_ends_total"))]],
      stacked: true,
    }),
    timeseries({
      title: "What was retransmitted",
      description:
        "SYNs: a peer that does not answer. Data: loss, but for what the peer reports as needless.",
      unit: units.PacketsPerSecond,
      width: 6,
      queries: [
        ["SYN, SYN-ACK", sum(rate("tcp_retransmitted_syns_total"))],
        [
          "data",
          `${sum(rate("tcp_retransmitted_segments_total"))} - ${sum(rate("tcp_retransmitted_syns_total"))}`,
        ],
        ["needless", sum(rate("tcp_spurious_retransmissions_total"))],
      ],
    }),
    timeseries({
      title: "SYN retransmit ratio of the ten worst groups",
      description:
        "The share of SYN and SYN-ACK segments that were retransmissions: a peer that does not answer, or answers late.",
      unit: units.PercentUnit,
      width: 6,
      queries: [
        [
          kGroupLegend,
          `topk(10, ${ratio(
            sumBy(kGroup, rate("tcp_retransmitted_syns_total")),
            sumBy(kGroup, rate("tcp_syns_sent_total")),
          )})`,
        ],
      ],
    }),
  ],
};

const duration: Row = {
  title: "Duration",
  panels: [
    heatmap({
      title: "Round-trip time",
      description:
        "Where the round trips of active connections lie. Two bands are two networks; a band that widens upwards is a queue that fills.",
      unit: units.Seconds,
      width: 12,
      queries: [["{{le}}", sumBy("le", rate("tcp_rtt_seconds_bucket"))]],
    }),
    timeseries({
      title: "Round-trip time quantiles",
      description:
        "Smoothed round-trip time, the peer's delayed acknowledgements included; the least of each connection that closed is without them.",
      unit: units.Seconds,
      width: 6,
      queries: [
        ["p50 of the least", quantile(0.5, "tcp_min_rtt_seconds")],
        ["p50", quantile(0.5, "tcp_rtt_seconds")],
        ["p90", quantile(0.9, "tcp_rtt_seconds")],
        ["p99", quantile(0.99, "tcp_rtt_seconds")],
      ],
      logarithmic: true,
    }),
    timeseries({
      title: "Median round trip by peer group",
      description: "The same by who is at the other end.",
      unit: units.Seconds,
      width: 6,
      queries: [["{{peer}}", quantile(0.5, "tcp_rtt_seconds", "le, peer")]],
      logarithmic: true,
    }),
    heatmap({
      title: "Delivery rate",
      description:
        "What the network carried for one connection, where the program had more to send: a slow program is not in it.",
      unit: units.BytesPerSecondSI,
      width: 12,
      queries: [["{{le}}", sumBy("le", rate("tcp_delivery_rate_bytes_per_second_bucket"))]],
    }),
    timeseries({
      title: "Who is slow",
      description:
        "What connections with data to send waited for, as shares of that time. The peer: its program reads too slowly. Our send buffer: too small for the path. The rest is the network.",
      unit: units.PercentUnit,
      width: 6,
      queries: [
        ["network", `1 - ${limited("")}`],
        ["peer", limited('by="receive_window"')],
        ["our send buffer", limited('by="send_buffer"')],
      ],
      stacked: true,
    }),
    timeseries({
      title: "Connections that are sending",
      description:
        "How many have data outstanding at a time, on average, by direction. Far below the established ones: programs are what is slow, or idle.",
      unit: units.Short,
      width: 6,
      queries: [["{{direction}}", sumBy("direction", rate("tcp_busy_seconds_total"))]],
    }),
  ],
};

const saturation: Row = {
  title: "Saturation",
  panels: [
    timeseries({
      title: "Connections by state",
      description:
        "Many in close_wait: a program forgets to close. Many in syn_recv: a flood. time_wait is normal after closing.",
      unit: units.Short,
      width: 12,
      queries: [["{{state}}", sumBy("state", gauge("tcp_host_connections"))]],
      stacked: true,
    }),
    timeseries({
      title: "Accept queues, the five fullest",
      description:
        "Connections that wait for accept(): now, the peak of the last minute, and the limit at which the kernel drops them.",
      unit: units.Short,
      width: 12,
      queries: [
        ["{{address}}:{{port}} peak {{netns}}", `topk(5, ${gauge("tcp_listener_queue_peak")})`],
        [
          "{{address}}:{{port}} now {{netns}}",
          `${gauge("tcp_listener_queue_length")} and topk(5, ${gauge("tcp_listener_queue_peak")})`,
        ],
        [
          "{{address}}:{{port}} limit {{netns}}",
          `${gauge("tcp_listener_queue_limit")} and topk(5, ${gauge("tcp_listener_queue_peak")})`,
        ],
      ],
    }),
    timeseries({
      title: "Connection tracking",
      description: "Entries in the kernel's table, against the number at which it drops packets.",
      unit: units.Short,
      width: 8,
      queries: [
        ["entries {{instance}} {{netns}}", `topk(5, ${gauge("tcp_conntrack_count")})`],
        [
          "limit {{instance}} {{netns}}",
          `${gauge("tcp_conntrack_limit")} and topk(5, ${gauge("tcp_conntrack_count")})`,
        ],
      ],
    }),
    timeseries({
      title: "Memory of all sockets",
      description: "Against the marks of tcp_mem: pressure shrinks buffers, high drops data.",
      unit: units.BytesIEC,
      width: 8,
      queries: [
        ["used {{instance}}", gauge("tcp_host_memory_bytes")],
        [
          "{{threshold}} limit {{instance}}",
          gauge("tcp_host_memory_limit_bytes", 'threshold!="low"'),
        ],
      ],
      logarithmic: true,
    }),
    timeseries({
      title: "Leftovers, as a share of their limit",
      description:
        "Orphans: closed by the program, not yet by the peer. TIME_WAIT: closed, kept for a minute. Beyond the limit the kernel cuts them short.",
      unit: units.PercentUnit,
      width: 8,
      queries: [
        ["orphans {{instance}}", ratio(gauge("tcp_host_orphans"), gauge("tcp_host_orphans_limit"))],
        [
          "TIME_WAIT {{instance}} {{netns}}",
          `topk(5, ${ratio(gauge("tcp_host_time_wait"), gauge("tcp_host_time_wait_limit"))})`,
        ],
      ],
    }),
    timeseries({
      title: "Accept queues found full, the five worst",
      description:
        "Of ten looks per second: what comes to a full queue is dropped. At 10 it is always full.",
      unit: units.CountsPerSecond,
      width: 6,
      queries: [
        ["{{address}}:{{port}} {{netns}}", `topk(5, ${rate("tcp_listener_queue_full_total")})`],
      ],
    }),
    timeseries({
      title: "Ephemeral ports towards one destination",
      description:
        "Local ports in use, of the destination that takes most, against those there are; beyond them connects fail. TIME_WAIT counts.",
      unit: units.Short,
      width: 6,
      queries: [
        [kGroupLegend, `topk(10, max by (${kGroup}) (${gauge("tcp_ephemeral_ports_used")}))`],
        ["limit {{instance}}", gauge("tcp_ephemeral_ports_limit")],
      ],
      logarithmic: true,
    }),
    timeseries({
      title: "Old CLOSE_WAIT connections, the ten worst groups",
      description:
        "The peer closed longer ago than the threshold, a minute by default; our program did not. One that only grows is a leak.",
      unit: units.Short,
      width: 6,
      queries: [
        [kGroupLegend, `topk(10, ${sumBy(kGroup, gauge("tcp_close_wait_old_connections"))})`],
      ],
    }),
    timeseries({
      title: "Longest in CLOSE_WAIT, the ten worst groups",
      description: "Age of the oldest. A straight line upwards is one that nobody will ever close.",
      unit: units.Seconds,
      width: 6,
      queries: [
        [
          kGroupLegend,
          `topk(10, max by (${kGroup}) (${gauge("tcp_close_wait_oldest_seconds")}))`,
        ],
      ],
    }),
  ],
};

const services: Row = {
  title: "Services and peers",
  panels: [
    table({
      title: "By service",
      description:
        "Who talks to whom: inbound by the port that listens, outbound by the port called. Sort by any column.",
      unit: units.Short,
      width: 24,
      labels: kGroup.split(", "),
      sortBy: "Connections",
      units: {
        "Opened/s": units.CountsPerSecond,
        Sent: units.BytesPerSecondSI,
        Received: units.BytesPerSecondSI,
        Retransmitted: units.PercentUnit,
        "RTT p50": units.Seconds,
        "RTT p99": units.Seconds,
      },
      queries: [
        ["Connections", sumBy(kGroup, gauge("tcp_connections"))],
        ["Opened/s", sumBy(kGroup, rate("tcp_connections_opened_total"))],
        ["Sent", sumBy(kGroup, rate("tcp_sent_bytes_total"))],
        ["Received", sumBy(kGroup, rate("tcp_received_bytes_total"))],
        ["Retransmitted", groupRetransmits(kGroup)],
        ["RTT p50", quantile(0.5, "tcp_rtt_seconds", `le, ${kGroup}`)],
        ["RTT p99", quantile(0.99, "tcp_rtt_seconds", `le, ${kGroup}`)],
      ],
    }),
    timeseries({
      title: "Connections of the ten busiest ports",
      description: "All states, by the service's port.",
      unit: units.Short,
      width: 12,
      queries: [
        [
          "{{direction}} {{port}}",
          `topk(10, ${sumBy("direction, port", gauge("tcp_connections"))})`,
        ],
      ],
    }),
    timeseries({
      title: "Payload sent by the ten busiest ports",
      description: "Bytes per second, retransmissions included, by the service's port.",
      unit: units.BytesPerSecondSI,
      width: 12,
      queries: [
        [
          "{{direction}} {{port}}",
          `topk(10, ${sumBy("direction, port", rate("tcp_sent_bytes_total"))})`,
        ],
      ],
    }),
  ],
};

const server: Row = {
  title: "Embedded server",
  panels: [
    timeseries({
      title: "Server connections",
      description: "What each listener of the embedded server carries, and how many it may.",
      unit: units.Short,
      width: 8,
      queries: [
        ["{{listener}}", sumBy("listener", gauge("tcp_server_connections"))],
        ["{{listener}} limit", sumBy("listener", gauge("tcp_server_connections_limit"))],
      ],
      logarithmic: true,
    }),
    timeseries({
      title: "Server connections accepted and closed",
      description: "Connections per second; closed ones by what ended them.",
      unit: units.CountsPerSecond,
      width: 8,
      queries: [
        ["{{listener}} accepted", sumBy("listener", rate("tcp_server_connections_accepted_total"))],
        [
          "{{listener}} closed: {{cause}}",
          sumBy("listener, cause", rate("tcp_server_connections_closed_total")),
        ],
      ],
    }),
    timeseries({
      title: "Server payload",
      description: "Bytes per second through each listener.",
      unit: units.BytesPerSecondSI,
      width: 8,
      queries: [
        ["{{listener}} sent", sumBy("listener", rate("tcp_server_sent_bytes_total"))],
        ["{{listener}} received", sumBy("listener", rate("tcp_server_received_bytes_total"))],
      ],
    }),
    timeseries({
      title: "Server round-trip time",
      description: "Of the embedded server's own connections.",
      unit: units.Seconds,
      width: 8,
      queries: [
        ["{{listener}} p50", quantile(0.5, "tcp_server_rtt_seconds", "le, listener")],
        ["{{listener}} p99", quantile(0.99, "tcp_server_rtt_seconds", "le, listener")],
      ],
      logarithmic: true,
    }),
    timeseries({
      title: "Server retransmit ratio",
      description:
        "The share of data segments that were repeats, over all connections of a listener.",
      unit: units.PercentUnit,
      width: 8,
      queries: [
        [
          "{{listener}}",
          dataRetransmits(
            sumBy("listener", rate("tcp_server_retransmitted_segments_total")),
            sumBy("listener", rate("tcp_server_data_segments_sent_total")),
          ),
        ],
      ],
      lines: kRetransmitLimits,
    }),
    timeseries({
      title: "Worst server connections",
      description:
        "Share of repeats over the life of the few connections where it is highest; each is gone when its connection is.",
      unit: units.PercentUnit,
      width: 8,
      queries: [["{{listener}} {{connection}}", gauge("tcp_server_connection_retransmit_ratio")]],
      lines: kRetransmitLimits,
    }),
  ],
};

const agent: Row = {
  title: "Agent",
  panels: [
    timeline({
      title: "Collectors",
      description:
        "A collector that fails leaves its metrics out. One that this kernel lacks is not failed.",
      unit: units.Short,
      width: 12,
      queries: [["{{collector}} {{instance}}", gauge("tcpvitals_collector_success")]],
      states: ["failed", "ok"],
    }),
    timeseries({
      title: "Time per collector",
      description: "How long each took in the last scrape.",
      unit: units.Seconds,
      width: 12,
      queries: [
        ["{{collector}}", `max by (collector) (${gauge("tcpvitals_collector_duration_seconds")})`],
      ],
      logarithmic: true,
    }),
    timeseries({
      title: "Sampling",
      description:
        "How long the last look at all sockets took, how old it was when served, and how long close events waited in the kernel's buffer at most.",
      unit: units.Seconds,
      width: 8,
      queries: [
        ["took {{instance}}", gauge("tcpvitals_sample_duration_seconds")],
        ["age {{instance}} {{netns}}", gauge("tcpvitals_sample_age_seconds")],
        ["events waited {{instance}}", gauge("tcpvitals_event_pause_seconds")],
      ],
    }),
    timeseries({
      title: "Close events",
      description:
        "From the kernel, per second. Lost ones, overruns and connections that vanished without an event make counters too low; a late event repairs that. Without counters: closed by an abort.",
      unit: units.CountsPerSecond,
      width: 8,
      queries: [
        ["received", sum(rate("tcpvitals_connection_events_total"))],
        ["lost", sum(rate("tcpvitals_connection_events_lost_total"))],
        ["overruns", sum(rate("tcpvitals_event_overruns_total"))],
        ["vanished", sum(rate("tcpvitals_connections_vanished_total"))],
        ["late", sum(rate("tcpvitals_late_events_total"))],
        ["without counters", sum(rate("tcpvitals_closes_without_counters_total"))],
      ],
    }),
    timeseries({
      title: "Series",
      description:
        "What the agent exports, what it left out because of its limit, and metrics it left out because they were invalid.",
      unit: units.Short,
      width: 8,
      queries: [
        ["exported {{instance}}", sumBy("instance", gauge("tcpvitals_series"))],
        [
          "left out {{instance}}",
          `sum by (instance) (increase(${gauge("tcpvitals_series_dropped_total")}[$__rate_interval]))`,
        ],
        [
          "invalid metrics {{instance}}",
          `sum by (instance) (increase(${gauge("tcpvitals_metrics_rejected_total")}[$__rate_interval]))`,
        ],
      ],
    }),
    timeseries({
      title: "Bounds in use",
      description: "Everything the agent keeps is bounded; these are the shares taken.",
      unit: units.PercentUnit,
      width: 8,
      queries: ["tracked_connections", "groups", "cgroups", "namespaces", "response_bytes"].map(
        (bound) => [
          `${bound.replace("_", " ")} {{instance}}`,
          ratio(gauge(`tcpvitals_${bound}`), gauge(`tcpvitals_${bound}_limit`)),
        ],
      ),
    }),
    timeseries({
      title: "Beyond the bounds",
      description:
        "Merged into other for lack of room, per second: groups and cgroups. Not looked at now: connections and network namespaces.",
      unit: units.Short,
      width: 8,
      queries: [
        ["groups merged", sum(rate("tcpvitals_groups_overflowed_total"))],
        ["cgroups merged", sum(rate("tcpvitals_cgroups_overflowed_total"))],
        ["connections not tracked", sum(gauge("tcpvitals_untracked_connections"))],
        ["namespaces: {{reason}}", sumBy("reason", gauge("tcpvitals_namespaces_unwatched"))],
      ],
    }),
    timeseries({
      title: "Unattributed connections",
      description:
        "What the kernel counted since the agent's start less what groups did. Above zero: lost, excluded or withheld; below: attempts that programs gave up.",
      unit: units.Short,
      width: 8,
      queries: [
        [
          "{{counter}} {{instance}}",
          sumBy("instance, counter", gauge("tcpvitals_unattributed_connections")),
        ],
      ],
      signed: true,
    }),
    timeline({
      title: "Features and configuration",
      description:
        "What the agent lacks a privilege or a kernel for, and whether the configuration file was right when it was last read.",
      unit: units.Short,
      width: 12,
      queries: [
        ["{{feature}} {{instance}}", gauge("tcpvitals_feature_available")],
        ["configuration {{instance}}", gauge("tcpvitals_config_last_reload_successful")],
      ],
      states: ["no", "yes"],
    }),
    timeseries({
      title: "Age of the configuration",
      description: "Time since the configuration in force was read.",
      unit: units.Seconds,
      width: 6,
      queries: [
        [
          "{{instance}}",
          `time() - ${gauge("tcpvitals_config_last_reload_success_timestamp_seconds")}`,
        ],
      ],
    }),
    timeseries({
      title: "Attributed retransmits",
      description:
        "The share of the host's retransmissions that some group accounts for; the kernel withholds the rest. The ten worst network namespaces if those are watched.",
      unit: units.PercentUnit,
      width: 6,
      queries: [
        [
          "{{instance}} {{netns}}",
          `bottomk(10, ${gauge("tcpvitals_attributed_retransmits_ratio")})`,
        ],
      ],
    }),
    timeseries({
      title: "CPU",
      description: "Cores the agent uses.",
      unit: units.PercentUnit,
      width: 12,
      queries: [["{{instance}}", rate("process_cpu_seconds_total")]],
    }),
    timeseries({
      title: "Memory",
      description: "Resident memory of the agent.",
      unit: units.BytesIEC,
      width: 12,
      queries: [["{{instance}}", gauge("process_resident_memory_bytes")]],
    }),
  ],
};

export const hostDashboard = () =>
  dashboard(
    {
      uid: "tcpvitals-host",
      title: "TCP vital signs / Host",
      description: "Every TCP connection of a host: how many, how lossy, how slow, how full.",
      tags: ["tcpvitals", "tcp"],
    },
    [now, rates, errors, duration, saturation, services, server, agent],
  );
