// Grouped by cgroup: connections belong to the cgroup of the process that made their socket, by its short name,
// also for an agent that is nobody.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { eventually, kBuild, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kPort = 7500;
const kContainer = "3f4e8b0a91c2".padEnd(64, "0");

// Where the cgroup v2 tree is. Making a cgroup needs root: without it this test fails, for it cannot run.
const kTree = /^\d+ \d+ \S+ \S+ (\S+) .*- cgroup2 /m.exec(readFileSync("/proc/self/mountinfo", "utf8"))?.[1];

// A process of that cgroup which holds connections.
async function holdIn(lab: Lab, network: Network, path: string, port: number, connections: number): Promise<void> {
  const directory = join(kTree!, path);
  const command = 'echo $$ > "$0/cgroup.procs" && exec "$@"';
  const load = [join(kBuild, "tcp_load"), "hold", "--port", String(port), "--connections", String(connections)];
  await lab.start([...network.prefix, "sh", "-c", command, directory, ...load]).ready();
}

test("connections are grouped by the short name of their cgroup", async (t) => {
  assert.ok(kTree, "no cgroup v2 mount here");
  const lab = new Lab(t);
  const root = `tcpvitals-test-${process.pid}.slice`;
  const paths = [root, `${root}/web.service`, `${root}/docker-${kContainer}.scope`, `${root}/late.service`];
  // After the Lab's own clean-up: a cgroup with a process in it stays.
  t.after(() => {
    for (const path of paths.reverse().map((path) => join(kTree, path))) if (existsSync(path)) rmdirSync(path);
  });
  paths.slice(0, 3).forEach((path) => mkdirSync(join(kTree, path)));
  const network = await lab.network();
  const config = join(lab.dir, "config.yml");
  writeFileSync(config, "connections: {group_by: [port, cgroup], limits: {cgroups: 4}}\n");
  const agent = await lab.agent(network, { flags: [`--config.file=${config}`, "--connections.cpu-budget=1"] });

  await holdIn(lab, network, paths[1]!, kPort, 3);
  await holdIn(lab, network, paths[2]!, kPort + 1, 5);
  const count = (cgroup: string, port: number): number =>
    agent.scrape().sum("tcp_connections", { cgroup, port: String(port), state: "established" });
  assert.equal(count("web.service", kPort), 2 * 3);
  assert.equal(count("3f4e8b0a91c2", kPort + 1), 2 * 5);
  assert.equal(agent.scrape().sum("tcp_connections_opened_total", { cgroup: "web.service" }), 2 * 3);

  // The walk for one that comes later goes on beside the samples: its connections move to its name when it is known.
  mkdirSync(join(kTree, paths[3]!));
  await holdIn(lab, network, paths[3]!, kPort + 2, 2);
  await eventually(10, () => assert.equal(count("late.service", kPort + 2), 2 * 2));
  assert.equal(count("unknown", kPort + 2), 0);

  // An event carries no cgroup: of a client that no dump saw it is not known.
  await lab.runLoad(network, "churn", { port: kPort + 3, count: 500, close: "abort" });
  await eventually(10, () => assert.ok(agent.scrape().value("tcpvitals_cgroups_unknown_total") > 0));
  const page = agent.scrape();
  assert.equal(page.value("tcpvitals_cgroups_limit"), 4);
  const held = page.samples("tcp_connections").filter(({ labels }) => /^750[0-2]$/.test(labels["port"]!));
  const names = new Set(held.map(({ labels }) => labels["cgroup"]));
  assert.deepEqual([...names].sort(), ["3f4e8b0a91c2", "late.service", "web.service"]);

  const url = `http://127.0.0.1:10077/api/v1/connections?port=${kPort + 1}&top=1000`;
  const { connections } = JSON.parse(network.run(["curl", "-sS", url])) as { connections: { cgroup: string }[] };
  assert.equal(connections.filter(({ cgroup }) => cgroup === "3f4e8b0a91c2").length, 2 * 5);
});
