// The API tells of each connection what ss tells, and of each group what /metrics tells.

import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import type { Sample } from "./exposition.js";
import { type Agent, kOwnPorts, kSource, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kPort = 7400;
const kConnections = 12;
const kUp = 32 * 1024; // of the first connection; the n-th carries n times as many

// Every seventh packet with data is lost at the receiver's door.
const kLoss = `table inet faults {
  chain faults {
    type filter hook prerouting priority raw
    tcp dport ${kPort} meta length > 500 numgen inc mod 7 == 0 drop
  }
}
`;

type Json = { [name: string]: Json } & number;
interface Reply {
  status: number;
  body: {
    version: number;
    error?: string;
    matched: number;
    returned: number;
    connections: Json[];
    groups: Json[];
  };
}

function get(network: Network, path: string, { host = "127.0.0.1:10077", headers = [] as string[] } = {}): Reply {
  const options = ["-sS", "--max-time", "10", "-w", "%{http_code}", ...headers];
  const reply = network.run(["curl", ...options, `http://${host}${path}`]);
  return { status: Number(reply.slice(-3)), body: JSON.parse(reply.slice(0, -3)) };
}

const connections = (network: Network, query: string) => get(network, `/api/v1/connections${query}`).body;

// Connections with traffic and losses that came to rest, and an agent that watched them.
async function quietLab(lab: Lab, flags: string[] = []): Promise<{ network: Network; agent: Agent }> {
  const network = await lab.network();
  network.nft(kLoss);
  const agent = await lab.agent(network, { flags: ["--connections.cpu-budget=1", ...flags] });
  await lab.load(network, "hold", { port: kPort, connections: kConnections, up: kUp }).ready();
  agent.scrape(); // their age counts from here
  await sleep(500);
  return { network, agent };
}

type Fields = Record<string, string>;

// A line of `ss -tinemH --tos` as fields by name; a bare word is the name of a flag, or the congestion control.
function parseSs(line: string): Fields {
  const [state, receive, send, local, remote, ...words] = line.trim().split(/\s+/);
  const fields: Fields = { state: state!, receive: receive!, send: send!, local: local!, remote: remote! };
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const [, name, value] = /^([a-z_]+):(.*)$/.exec(word) ?? [];
    if (name) fields[name] = value!;
    else if (word === "send") ++i; // a rate that ss computes from others
    else if (/^(pacing_rate|delivery_rate|max_pacing_rate)$/.test(word)) fields[word] = words[++i]!;
    else if (/^[-<>]{3}$/.test(word)) fields["shutdown"] = word;
    else if (/^(ts|sack|ecn|ecnseen|app_limited)$/.test(word)) fields[word] = "";
    else fields["congestion_control"] = word;
  }
  return fields;
}

const exactly = (name: string) => (json: Json, value: string) => assert.equal(String(json[name]), value);
// ss prints six digits.
const about = (name: string, unit: number, slack = 0) => (json: Json, value: string) => {
  const wanted = parseFloat(value) * unit;
  const error = Math.abs(json[name]! - wanted);
  assert.ok(error <= Math.max(slack, 1e-5 * wanted), `${name}: ${json[name]} is not ${wanted}`);
};
const option = (name: string) => (json: Json) => {
  assert.ok((json["options"] as unknown as string[]).includes(name));
};
const bps = (name: string) => about(name, 1 / 8);
const address = (name: string) => (json: Json, value: string) => {
  const { address, port } = json[name] as unknown as { address: string; port: number };
  assert.equal(`${address}:${port}`, value);
};
const pair = (first: string, second: string, separator: string, unit = 1) => (json: Json, value: string) => {
  const values = value.split(separator);
  about(first, unit)(json, values[0]!);
  about(second, unit)(json, values[1]!);
};

function sameMemory(json: Json, value: string): void {
  const m = json["memory"]!;
  const words = `r${m["receive_allocated_bytes"]},rb${m["receive_buffer_bytes"]},t${m["send_allocated_bytes"]},` +
    `tb${m["send_buffer_bytes"]},f${m["forward_allocated_bytes"]},w${m["send_queued_bytes"]},o${m["options_bytes"]},` +
    `bl${m["backlog_bytes"]},d${m["dropped_packets"]}`;
  assert.equal(`(${words})`, value);
}

function sameBbr(json: Json, value: string): void {
  const bbr = json["bbr"]!;
  for (const [, name, text] of value.matchAll(/([a-z_]+):([0-9.]+)/g)) {
    if (name === "bw") bps("bandwidth_bytes_per_second")(bbr, text!);
    else if (name === "mrtt") about("min_rtt_seconds", 1e-3)(bbr, text!);
    else if (name === "pacing_gain") about("pacing_gain", 1)(bbr, text!);
    else if (name === "cwnd_gain") about("congestion_window_gain", 1)(bbr, text!);
    else assert.fail(`bbr's ${name}`);
  }
}

function sameCgroup(json: Json, path: string): void {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  const mount = /^\d+ \d+ \S+ \S+ (\S+) .*- cgroup2 /m.exec(mounts)?.[1];
  assert.ok(mount, "no cgroup2 mount");
  assert.equal(json["cgroup_id"], statSync(mount + path).ino);
}

// Everything that a line of ss may hold, and where the API has it. What time moves may differ by `kMoved`.
const kMoved = 5; // seconds
const kFields: Record<string, (json: Json, value: string) => void> = {
  state: (json, value) => assert.equal(String(json["state"]), value === "ESTAB" ? "established" : value),
  receive: exactly("receive_queue_bytes"),
  send: exactly("send_queue_bytes"),
  local: address("local"),
  remote: address("remote"),
  uid: exactly("uid"),
  ino: exactly("inode"),
  sk: exactly("cookie"),
  cgroup: sameCgroup,
  shutdown: (json, value) => {
    assert.equal(json["receive_shutdown"], value[0] === "-");
    assert.equal(json["send_shutdown"], value[2] === "-");
  },
  tos: (json, value) => assert.equal(json["tos"], Number(value)),
  class_id: () => {}, // ss is root here, the agent is not: it is not told
  skmem: sameMemory,
  ts: option("timestamps"),
  sack: option("sack"),
  ecn: option("ecn"),
  ecnseen: option("ecn_seen"),
  congestion_control: exactly("congestion_control"),
  wscale: pair("send_window_scale", "receive_window_scale", ","),
  rto: about("rto_seconds", 1e-3),
  backoff: exactly("backoff"),
  rtt: pair("rtt_seconds", "rtt_deviation_seconds", "/", 1e-3),
  ato: about("delayed_ack_seconds", 1e-3),
  mss: exactly("send_mss_bytes"),
  pmtu: exactly("path_mtu_bytes"),
  rcvmss: exactly("receive_mss_bytes"),
  advmss: exactly("advertised_mss_bytes"),
  cwnd: exactly("congestion_window_segments"),
  ssthresh: exactly("slow_start_threshold_segments"),
  bytes_sent: exactly("sent_bytes"),
  bytes_retrans: exactly("retransmitted_bytes"),
  bytes_acked: exactly("acknowledged_bytes"),
  bytes_received: exactly("received_bytes"),
  segs_out: exactly("segments_sent"),
  segs_in: exactly("segments_received"),
  data_segs_out: exactly("data_segments_sent"),
  data_segs_in: exactly("data_segments_received"),
  bbr: sameBbr,
  lastsnd: about("since_data_sent_seconds", 1e-3, kMoved),
  lastrcv: about("since_data_received_seconds", 1e-3, kMoved),
  lastack: about("since_ack_received_seconds", 1e-3, kMoved),
  pacing_rate: bps("pacing_rate_bytes_per_second"),
  max_pacing_rate: bps("max_pacing_rate_bytes_per_second"),
  delivery_rate: bps("delivery_rate_bytes_per_second"),
  delivered: exactly("delivered_segments"),
  delivered_ce: exactly("ce_marked_segments"),
  app_limited: (json) => assert.equal(json["delivery_rate_app_limited"], true),
  busy: about("busy_seconds", 1e-3, 1e-3), // ss cuts it to whole milliseconds, here and below
  rwnd_limited: about("receive_window_limited_seconds", 1e-3, 1e-3),
  sndbuf_limited: about("send_buffer_limited_seconds", 1e-3, 1e-3),
  unacked: exactly("unacknowledged_segments"),
  retrans: pair("retransmitted_segments_in_flight", "retransmitted_segments", "/"),
  lost: exactly("lost_segments"),
  sacked: exactly("sacked_segments"),
  dsack_dups: exactly("spurious_retransmissions"),
  reordering: exactly("reordering_segments"),
  reord_seen: exactly("reordering_events"),
  rcv_rtt: about("receive_rtt_seconds", 1e-3),
  rcv_space: exactly("receive_space_bytes"),
  rcv_ssthresh: exactly("receive_slow_start_threshold_bytes"),
  notsent: exactly("unsent_bytes"),
  minrtt: about("min_rtt_seconds", 1e-3),
  rcv_ooopack: exactly("out_of_order_segments"),
  snd_wnd: exactly("send_window_bytes"),
  rcv_wnd: exactly("receive_window_bytes"),
};

test("every field of every connection is what ss shows", async (t) => {
  const lab = new Lab(t);
  const { network } = await quietLab(lab);
  const { version, matched, returned, connections: found } = connections(network, `?top=1000&port=${kPort}`);
  const filter = `( sport = ${kPort} or dport = ${kPort} )`;
  const lines = network.run(["ss", "-tinemHO", "--tos", filter]).trim().split("\n");
  assert.deepEqual([version, matched, returned, found.length], [1, ...Array(3).fill(2 * kConnections)]);
  assert.equal(lines.length, 2 * kConnections);

  const byCookie = new Map(found.map((json) => [String(json["cookie"]), json]));
  const compared = new Set<string>();
  for (const line of lines) {
    const fields = parseSs(line);
    const json = byCookie.get(fields["sk"]!);
    assert.ok(json, `no ${line}`);
    for (const [name, value] of Object.entries(fields)) {
      const same = kFields[name];
      assert.ok(same, `ss shows ${name}:${value}`);
      same(json, value);
      compared.add(name);
    }
    assert.equal(json["direction"], fields["local"]!.endsWith(`:${kPort}`) ? "inbound" : "outbound");
    assert.equal(json["port"], String(kPort));
    assert.equal(json["peer"], "loopback");
    assert.ok(json["age_seconds"]! > 0.4 && json["age_seconds"]! < 60);
  }
  for (const name of ["bytes_sent", "bytes_received", "bytes_retrans", "retrans", "rtt", "skmem", "delivered"]) {
    assert.ok(compared.has(name), `no connection had ${name}`);
  }
  // The n-th connection carried n times as many bytes.
  const inbound = found.filter((json) => String(json["direction"]) === "inbound");
  const received = inbound.map((json) => json["received_bytes"]!).sort((a, b) => a - b);
  assert.deepEqual(received, Array.from({ length: kConnections }, (_, i) => (i + 1) * kUp));
});

// Every name of a field below `json`.
function names(json: Json): string[] {
  if (typeof json !== "object") return [];
  const inner = Object.values<Json>(json).flatMap(names);
  return Array.isArray(json) ? inner : [...Object.keys(json), ...inner];
}

test("docs/api.md names every field, and its example is one", async (t) => {
  const lab = new Lab(t);
  const { network } = await quietLab(lab);
  const docs = readFileSync(join(kSource, "docs/api.md"), "utf8");
  const found = new Set(connections(network, "?top=1000").connections.flatMap(names));
  const replies = [...docs.matchAll(/^```\n(\{.*?)^```$/gms)].map((match) => JSON.parse(match[1]!) as Json);
  const example = new Set(names(replies[0]!["connections"]!));
  for (const name of found) {
    assert.ok(docs.includes(`\`${name}\``) || example.has(name), `docs/api.md lacks ${name}`);
  }
  assert.ok(found.size > 70 && example.size > 70);
  for (const name of example) {
    assert.ok(found.has(name) || docs.includes(`\`${name}\``), `the example invents ${name}`);
  }
});

test("connections are sorted, bounded and filtered as asked", async (t) => {
  const lab = new Lab(t);
  const { network } = await quietLab(lab);
  const sorts: Record<string, (json: Json) => number> = {
    retransmits: (json) => json["retransmitted_segments"]!,
    rtt: (json) => json["rtt_seconds"]!,
    bytes: (json) => json["sent_bytes"]! + json["received_bytes"]!,
    send_queue: (json) => json["send_queue_bytes"]!,
    age: (json) => json["age_seconds"]!,
  };
  for (const [sort, of] of Object.entries(sorts)) {
    const all = connections(network, `?sort=${sort}&top=1000&port=${kPort}`).connections.map(of);
    assert.equal(all.length, 2 * kConnections);
    assert.deepEqual(all, [...all].sort((a, b) => b - a), sort);
    const { matched, returned, connections: top } = connections(network, `?sort=${sort}&top=5&port=${kPort}`);
    assert.deepEqual([matched, returned], [2 * kConnections, 5]);
    // Of an age all else grows; of equals any may come.
    if (sort !== "age") assert.deepEqual(top.map(of), all.slice(0, 5), sort);
  }
  const standard = connections(network, "").connections.map(sorts["retransmits"]!);
  assert.equal(standard.length, 20);
  assert.ok(standard[0]! > 0, "nothing was retransmitted");

  const count = (query: string): number => connections(network, query).matched;
  assert.equal(count(`?port=${kPort}&direction=inbound`), kConnections);
  assert.equal(count(`?port=${kPort}&direction=outbound&peer=loopback&state=established`), kConnections);
  assert.equal(count(`?port=${kPort}&peer=public`), 0);
  assert.equal(count(`?port=${kPort}&state=close_wait`), 0);
  assert.equal(count("?port=7401"), 0);
  assert.equal(get(network, "/api/v1/connections?top=1001").status, 400);
  assert.equal(get(network, "/api/v1/connections?limit=1").status, 400);

  await lab.load(network, "hold", { port: kPort + 1, connections: 600 }).ready();
  const { matched, returned } = connections(network, `?port=${kPort + 1}&top=1000`);
  assert.deepEqual([matched, returned], [1200, 1000]);
});

// "name{label=value,...}" and the value, of every number below `json`.
function* leaves(path: string, json: Json): Generator<[string, number]> {
  if (typeof json === "number") yield [path, json];
  else for (const [name, inner] of Object.entries<Json>(json)) yield* leaves(`${path}/${name}`, inner);
}

test("groups have the numbers of /metrics, all of them", async (t) => {
  const lab = new Lab(t);
  const { network, agent } = await quietLab(lab);
  get(network, "/api/v1/groups");
  agent.scrape();
  await sleep(200); // the scrapes' own connections are closed
  const page = agent.scrape();
  const { status, body } = get(network, "/api/v1/groups");
  assert.equal(status, 200);

  const isGroups = ({ labels }: Sample): boolean => "direction" in labels && !kOwnPorts.has(labels["port"]!);
  const wanted = new Map<string, number>();
  for (const family of page.families.values()) {
    for (const { name, labels, value } of family.samples.filter(isGroups)) {
      const { direction, port, peer, le, ...rest } = labels;
      if (le === "+Inf") continue;
      const part = family.type !== "histogram" ? "" : `/${name.slice(family.name.length + 1)}`;
      const path = [...Object.values(rest)].map((label) => `/${label}`).join("");
      wanted.set(`${direction} ${port} ${peer} ${family.name}${path}${part}${le ? ` ${Number(le)}` : ""}`, value);
    }
  }
  const found = new Map<string, number>();
  for (const { direction, port, peer, metrics } of body.groups) {
    if (kOwnPorts.has(String(port))) continue; // our own requests
    for (const [path, value] of leaves("", metrics!)) {
      found.set(`${direction} ${port} ${peer} ${path.slice(1)}`, value);
    }
  }
  // Buckets are a list: give each the name it has among the metrics.
  for (const [path, value] of [...found]) {
    const [, start, index, what] = /^(.*)\/buckets\/(\d+)\/(le|count)$/.exec(path) ?? [];
    if (start === undefined) continue;
    found.delete(path);
    if (what === "le") found.set(`${start}/bucket ${value}`, found.get(`${start}/buckets/${index}/count`)!);
  }
  assert.ok(wanted.size > 100, "too few samples");
  assert.deepEqual(Object.fromEntries([...found].sort()), Object.fromEntries([...wanted].sort()));
});

test("only loopback is answered, and only by an address, unless --web.api-remote says otherwise", async (t) => {
  const lab = new Lab(t);
  const here = await lab.network();
  const there = await lab.network(here);
  here.connect(there, "100mbit");
  for (const flags of [[], ["--web.api-remote"]]) {
    const agent = await lab.agent(there, { flags: ["--web.listen-address=[0.0.0.0]:10077", ...flags] });
    const remote = flags.length > 0 ? 200 : 403;
    for (const path of ["/api/v1/connections", "/api/v1/groups"]) {
      assert.equal(get(there, path).status, 200);
      const far = get(here, path, { host: "10.77.0.2:10077" });
      assert.equal(far.status, remote);
      if (remote === 403) assert.match(far.body.error!, /^not from 10\.77\.0\.1: .*--web\.api-remote/);
      assert.equal(get(there, path, { headers: ["-H", "Host: rebound.example"] }).status, remote);
    }
    here.run(["curl", "-sS", "--fail", "http://10.77.0.2:10077/metrics"]);
    assert.equal(await agent.child.stop(), 0);
  }
});
