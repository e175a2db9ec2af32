// Grouped by netns: every network namespace has its own counters, told apart even where addresses and ports
// are the same, while namespaces come and go.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import type { Exposition, Labels } from "./exposition.js";
import { type Agent, eventually, finished, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kPort = 7600;
const kLossyPort = 7601;

// Every so many data segments of the server's is dropped where the client would receive it.
const kFaults = `table inet faults {
  counter dropped { }
  chain faults {
    type filter hook prerouting priority raw
    tcp sport ${kLossyPort} ip length > 80 numgen inc mod 40 == 0 counter name dropped drop
  }
}
`;

const kTracking = `table inet tracking {
  chain output {
    type filter hook output priority 0
    ct state new accept
  }
}
`;

const inbound = (netns: string): Labels => ({ direction: "inbound", port: String(kPort), netns });
const outbound = (netns: string): Labels => ({ direction: "outbound", port: String(kPort), netns });

async function startAgent(lab: Lab, network: Network, unprivileged = false): Promise<Agent> {
  const config = join(lab.dir, "config.yml");
  writeFileSync(config, "connections: {group_by: [direction, port, peer, netns]}\n");
  const flags = [`--config.file=${config}`, "--connections.cpu-budget=1"];
  return lab.agent(network, { unprivileged, flags });
}

function isWatched(page: Exposition, id: string): boolean {
  return page.samples("tcp_host_connections", { netns: id }).length > 0;
}

// Its baseline is taken: what happens in it from now on counts.
async function watched(agent: Agent, network: Network): Promise<void> {
  await eventually(10, () => assert.ok(isWatched(agent.scrape(), network.id), "not watched in 10 s"));
  await sleep(200);
  agent.scrape();
}

// Of the kernel in that namespace: a field of the Tcp lines of /proc/net/snmp.
function tcpField(network: Network, name: string): number {
  const lines = network.run(["grep", "^Tcp:", "/proc/net/snmp"]).split("\n");
  const [names, values] = lines.map((line) => line.split(" "));
  return Number(values![names!.indexOf(name)]);
}

test("namespaces with the same addresses and ports are kept apart, to the connection and the byte", async (t) => {
  const lab = new Lab(t);
  const host = await lab.network();
  const agent = await startAgent(lab, host);
  const blue = await lab.network(host);
  const green = await lab.network(host);
  await Promise.all([blue, green].map((network) => watched(agent, network)));

  const traffic = [
    { network: host, netns: "host", count: 50, up: 11, down: 12 },
    { network: blue, netns: blue.id, count: 3000, up: 100, down: 33 },
    { network: green, netns: green.id, count: 2000, up: 41, down: 7 },
  ];
  const opens = (page: Exposition, netns: string) =>
    page.value("tcp_host_connections_opened_total", { by: "passive", netns });
  const before = agent.scrape();
  await Promise.all(
    traffic.map(({ network, count, up, down }) =>
      lab.runLoad(network, "churn", { port: kPort, count, up, down }),
    ),
  );
  await sleep(500);
  const page = agent.scrape();
  assert.equal(page.value("tcpvitals_connection_events_lost_total"), 0);
  for (const { netns, count, up, down } of traffic) {
    for (const labels of [inbound(netns), outbound(netns)]) {
      assert.equal(page.value("tcp_connections_opened_total", labels), count, JSON.stringify(labels));
      assert.equal(page.value("tcp_connections_closed_total", labels), count, JSON.stringify(labels));
    }
    assert.equal(page.value("tcp_received_bytes_total", inbound(netns)), count * up);
    assert.equal(page.value("tcp_sent_bytes_total", inbound(netns)), count * down);
    assert.equal(page.value("tcp_received_bytes_total", outbound(netns)), count * down);
    assert.equal(page.value("tcp_sent_bytes_total", outbound(netns)), count * up);
    // The scrapes themselves open connections in the agent's own namespace.
    if (netns !== "host") assert.equal(opens(page, netns) - opens(before, netns), count);
  }
});

test("what a namespace loses is retransmitted in that one alone, and equals its kernel's total", async (t) => {
  const lab = new Lab(t);
  const host = await lab.network();
  const agent = await startAgent(lab, host);
  const lossy = await lab.network(host);
  const clean = await lab.network(host);
  lossy.nft(kFaults);
  await Promise.all([lossy, clean].map((network) => watched(agent, network)));

  for (const network of [lossy, clean]) {
    const server = lab.load(network, "serve", { port: kLossyPort, reply: "echo" });
    await server.ready();
    await lab.runLoad(network, "pingpong", { port: kLossyPort, connections: 4, count: 500, up: 64 });
    server.closeStdin();
    await finished(server);
  }
  await sleep(500);
  const page = agent.scrape();
  const dropped = lossy.nftCounter("dropped").packets;
  const retransmitted = (network: Network): number =>
    page.sum("tcp_retransmitted_segments_total", { netns: network.id });
  // A request whose answer is lost is repeated too, needlessly.
  const spurious = page.sum("tcp_spurious_retransmissions_total", { netns: lossy.id });
  t.diagnostic(`${dropped} dropped, ${retransmitted(lossy)} retransmitted, ${spurious} spurious`);
  assert.ok(dropped >= 40, `only ${dropped} segments were dropped`);
  assert.ok(Math.abs(retransmitted(lossy) - spurious - dropped) <= 2);
  for (const network of [lossy, clean]) {
    const kernel = tcpField(network, "RetransSegs");
    assert.equal(retransmitted(network), kernel);
    assert.equal(page.value("tcp_host_segments_retransmitted_total", { netns: network.id }), kernel);
  }
  assert.equal(retransmitted(clean), 0);
});

test("each namespace has its own connection tracking table and port range", async (t) => {
  const lab = new Lab(t);
  const host = await lab.network();
  const agent = await startAgent(lab, host);
  const tracked = await lab.network(host);
  const plain = await lab.network(host);
  tracked.nft(kTracking);
  tracked.run(["sh", "-c", "echo 10000 10009 > /proc/sys/net/ipv4/ip_local_port_range"]);
  tracked.run(["sh", "-c", "echo 10003 > /proc/sys/net/ipv4/ip_local_reserved_ports"]);
  await Promise.all([tracked, plain].map((network) => watched(agent, network)));

  const held = lab.load(tracked, "hold", { port: kPort, connections: 5 });
  await held.ready();
  const page = agent.scrape();
  const count = (netns: string): number => page.value("tcp_conntrack_count", { netns });
  assert.equal(count(tracked.id), Number(tracked.run(["cat", "/proc/sys/net/netfilter/nf_conntrack_count"])));
  assert.ok(count(tracked.id) >= 5);
  assert.equal(count(plain.id), 0);
  for (const { id } of [tracked, plain]) {
    assert.ok(page.value("tcp_conntrack_limit", { netns: id }) > 0);
    assert.equal(page.samples("tcp_conntrack_drops_total", { netns: id }).length, 1);
  }
  assert.equal(page.value("tcp_host_ephemeral_ports_limit", { netns: tracked.id }), 9);
  assert.ok(page.value("tcp_host_ephemeral_ports_limit", { netns: plain.id }) > 9);
  await held.stop("SIGKILL");
});

test("namespaces come and go: their series end, what they did stays, and no descriptor is left", async (t) => {
  const lab = new Lab(t);
  const host = await lab.network();
  const agent = await startAgent(lab, host);
  // Three sockets and eleven files of each namespace, those of other programs that come and go on this machine
  // included.
  const otherDescriptors = (page: Exposition): number =>
    page.value("process_open_fds") - 14 * (page.value("tcpvitals_namespaces") - 1);
  // A scrape may find the connections of the one before it: two descriptors, for a moment.
  let before = Infinity;
  for (let i = 0; i < 10; ++i) {
    before = Math.min(before, otherDescriptors(agent.scrape()));
    await sleep(50);
  }
  const noneLeft = () =>
    eventually(10, () => assert.equal(otherDescriptors(agent.scrape()), before, "descriptors"));
  for (let round = 0; round < 3; ++round) {
    const networks = [await lab.network(host), await lab.network(host)];
    const ids = networks.map((network) => network.id);
    await Promise.all(networks.map((network) => watched(agent, network)));
    // The kernel may give a number again; its series then go on.
    const start = agent.scrape();
    await noneLeft();
    await Promise.all(networks.map((network) => lab.runLoad(network, "churn", { port: kPort, count: 100 })));
    const held = lab.load(networks[0]!, "hold", { port: kPort, connections: 5 });
    await held.ready();
    assert.equal(agent.scrape().value("tcp_connections", { ...inbound(ids[0]!), state: "established" }), 5);
    await held.stop("SIGKILL");
    for (const network of networks) network.close();
    const end = await eventually(10, () => {
      const page = agent.scrape();
      for (const id of ids) assert.ok(!isWatched(page, id), "still watched after 10 s");
      return page;
    });
    for (const [i, netns] of ids.entries()) {
      assert.equal(end.samples("tcp_host_segments_sent_total", { netns }).length, 0);
      for (const labels of [inbound(netns), outbound(netns)]) {
        for (const name of ["tcp_connections_opened_total", "tcp_connections_closed_total"]) {
          assert.equal(end.value(name, labels) - start.sum(name, labels), i === 0 ? 105 : 100, name);
        }
        assert.equal(end.sum("tcp_connections", labels), 0);
      }
    }
  }
  await noneLeft();
});

test("a namespace where nothing moves is not dumped again, and its numbers stay true", async (t) => {
  const lab = new Lab(t);
  const host = await lab.network();
  const agent = await startAgent(lab, host);
  const quiet = await lab.network(host);
  await watched(agent, quiet);
  const established = (page: Exposition): number =>
    page.sum("tcp_connections", { netns: quiet.id, port: String(kPort), state: "established" });
  const undumped = (page: Exposition): number =>
    page.value("tcpvitals_namespaces") - page.value("tcpvitals_sample_namespaces");

  const held = lab.load(quiet, "hold", { port: kPort, connections: 5 });
  await held.ready();
  await sleep(200);
  assert.equal(established(agent.scrape()), 2 * 5);
  const page = await eventually(10, () => {
    const page = agent.scrape();
    assert.ok(undumped(page) > 0, "every namespace is dumped each time");
    return page;
  });
  assert.equal(established(page), 2 * 5);
  assert.equal(page.value("tcp_host_connections", { netns: quiet.id, state: "established" }), 2 * 5);
  assert.ok(page.value("tcpvitals_sample_age_seconds", { netns: quiet.id }) < 5);
  await held.stop("SIGKILL");
  await eventually(10, () => assert.equal(established(agent.scrape()), 0));
});

test("without capabilities the agent watches its own namespace, and says so once", async (t) => {
  const lab = new Lab(t);
  const host = await lab.network();
  const other = await lab.network(host);
  const agent = await startAgent(lab, host, true);
  await lab.runLoad(other, "churn", { port: kPort, count: 50 });
  await lab.runLoad(host, "churn", { port: kPort, count: 200, up: 10, down: 20 });
  await sleep(2500);
  const page = agent.scrape();
  assert.equal(page.value("tcpvitals_feature_available", { feature: "netns" }), 0);
  assert.equal(page.value("tcpvitals_namespaces"), 1);
  for (const labels of [inbound("host"), outbound("host")]) {
    assert.equal(page.value("tcp_connections_opened_total", labels), 200);
    assert.equal(page.value("tcp_connections_closed_total", labels), 200);
  }
  const sent = page.samples("tcp_host_segments_sent_total");
  assert.deepEqual(sent.map(({ labels }) => labels["netns"]), ["host"]);
  await agent.child.stop();
  const lines = agent.child.stderr.split("\n").filter((line) => /level=warning.*netns/.test(line));
  assert.equal(lines.length, 1, lines.join("\n"));
  assert.match(lines[0]!, /only our own namespace is watched.*CAP_SYS_ADMIN, CAP_NET_BROADCAST, CAP_NET_ADMIN/);
});
