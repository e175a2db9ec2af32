// A million peers and ten thousand ports do not make the agent large: what has no place of its own is counted
// in `other`, to the connection.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import type { Exposition, Labels } from "./exposition.js";
import { type Agent, finished, kOwnPorts, Lab } from "./harness.js";

const kPeers = 1_000_000;
const kPorts = 10_000; // kPeers is a multiple of it
const kFirstPort = 20_000; // below the ephemeral ports
const kMetricsLimit = 2e6; // bytes
const kMemoryLimit = 64e6;
const kGroups = 200;

// The sources are of 16 groups, 65,536 addresses each: 127.16.0.0/16 and so on.
const kConfig = `connections:
  peers: {${Array.from({ length: 16 }, (_, i) => `net${i}: 127.${16 + i}.0.0/16`).join(", ")}}
`;

function memory(agent: Agent): number {
  const status = readFileSync(`/proc/${agent.child.pid}/status`, "utf8");
  return 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]);
}

const isOther = (labels: Labels): boolean => labels["port"] === "other";

function opened(page: Exposition, direction: string, wanted: (labels: Labels) => boolean): number {
  return page
    .samples("tcp_connections_opened_total")
    .filter(({ labels }) => labels["direction"] === direction && wanted(labels))
    .reduce((sum, { value }) => sum + value, 0);
}

test(`${kPeers} peers, ${kPorts} ports: bounded, and other grows by the rest`, async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const config = join(lab.dir, "tcpvitals.yml");
  writeFileSync(config, kConfig);
  const agent = await lab.agent(network, { flags: [`--config.file=${config}`] });
  const before = agent.scrape();
  const resting = memory(agent);

  const flood = lab.load(network, "flood", {
    port: kFirstPort,
    ports: kPorts,
    count: kPeers,
    connections: 2,
    seconds: 600,
  });
  let largest = 0;
  while (flood.running) {
    await sleep(1000);
    largest = Math.max(largest, agent.text().length);
  }
  const done = await finished(flood);
  await sleep(500);
  const after = agent.scrape();
  largest = Math.max(largest, agent.text().length);

  const lost = after.sum("tcpvitals_connection_events_lost_total") - before.sum("tcpvitals_connection_events_lost_total");
  const named = opened(after, "inbound", (l) => !isOther(l) && Number(l["port"]) >= kFirstPort);
  const other = opened(after, "inbound", isOther);
  const outbound = opened(after, "outbound", (l) => !kOwnPorts.has(l["port"]!));
  t.diagnostic(
    `${(kPeers / done["seconds"]!).toFixed(0)} connections/s, ${lost} events lost, /metrics ${largest} bytes, ` +
      `memory ${(resting / 1e6).toFixed(1)} to ${(memory(agent) / 1e6).toFixed(1)} MB, ` +
      `inbound ${named} in groups of their own and ${other} in other`,
  );
  // Nothing is missing but what the agent says it missed.
  assert.ok(named + other <= kPeers && named + other + lost >= kPeers, `${named} + ${other}`);
  assert.ok(outbound <= kPeers && named + other + outbound + lost >= 2 * kPeers, `${outbound}`);
  if (lost === 0) {
    assert.equal(named + other, kPeers);
    assert.equal(outbound, kPeers);
  }
  assert.ok(other > kPeers / 2);
  assert.ok(after.value("tcpvitals_groups_overflowed_total", {}) >= other);
  assert.equal(after.value("tcpvitals_groups_limit", {}), kGroups);
  assert.ok(after.value("tcpvitals_groups", {}) <= kGroups + 2 * 20); // other: a direction and a peer each
  assert.equal(after.sum("tcpvitals_series_dropped_total"), 0);
  assert.ok(after.value("tcpvitals_tracked_connections", {}) < 100);
  assert.ok(largest < kMetricsLimit, `/metrics has ${largest} bytes`);
  assert.ok(memory(agent) < kMemoryLimit, `the agent takes ${memory(agent)} bytes`);
});
