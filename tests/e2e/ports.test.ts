// Which end of a connection is the service does not depend on the range of local ports: neither its direction nor
// its port; and the use of local ports is held against the range there is now.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { type Agent, type Child, eventually, Lab } from "./harness.js";
import type { Network } from "./network.js";

// Listens on the ports of its arguments and holds what comes.
const kServer = `
const net = require("node:net");
const ports = process.argv.slice(1).map(Number);
let waiting = ports.length;
for (const port of ports) {
  net.createServer(() => {}).listen(port, "127.0.0.1", () => --waiting || console.log('{"ready":true}'));
}`;

// Connects as its arguments say, "from:to" with 0 for any, holds the connections and says when all stand.
const kClient = `
const net = require("node:net");
const pairs = process.argv.slice(1).map((pair) => pair.split(":").map(Number));
let waiting = pairs.length;
for (const [localPort, port] of pairs) {
  const options = { host: "127.0.0.1", port, ...(localPort ? { localAddress: "127.0.0.1", localPort } : {}) };
  net.connect(options, () => --waiting || console.log('{"ready":true}'));
}
setInterval(() => {}, 1000);`;

// Binds a socket and closes it, as often as its argument says.
const kBinder = `
const { TCP } = process.binding("tcp_wrap");
for (let i = 0; i < Number(process.argv[1]); ++i) {
  const socket = new TCP(0);
  socket.bind("127.0.0.1", 0);
  socket.close();
}
console.log('{"ready":true}');
setInterval(() => {}, 1000);`; // until it is stopped

async function started(lab: Lab, network: Network, script: string, args: (string | number)[]): Promise<Child> {
  const child = lab.start([...network.prefix, process.execPath, "-e", script, ...args.map(String)]);
  await child.ready();
  return child;
}

const setRange = (network: Network, first: number, last: number) =>
  network.run(["sysctl", "-qw", `net.ipv4.ip_local_port_range=${first} ${last}`]);

// Established connections by port.
async function ports(agent: Agent, direction: string, wanted: Record<string, number>): Promise<void> {
  await eventually(10, () => {
    const samples = agent.scrape().samples("tcp_connections", { direction, state: "established" });
    const found = Object.fromEntries(samples.map(({ labels, value }) => [labels["port"]!, value]));
    for (const [port, connections] of Object.entries(wanted)) {
      assert.equal(found[port] ?? 0, connections, `${direction} ${port} of ${JSON.stringify(found)}`);
    }
  });
}

for (const [first, last] of [[32768, 60999], [1024, 65535]] as const) {
  test(`with local ports from ${first} to ${last} services keep their numbers at both ends`, async (t) => {
    const lab = new Lab(t);
    const network = await lab.network();
    setRange(network, first, last);
    const services = [443, 5432, 6379, 8080, 9200, 50051];
    await started(lab, network, kServer, services);
    const agent = await lab.agent(network, { flags: ["--connections.cpu-budget=1"] });
    await started(lab, network, kClient, services.flatMap((port) => [`0:${port}`, `0:${port}`, `0:${port}`]));
    const each = Object.fromEntries(services.map((port) => [port, 3]));
    await ports(agent, "inbound", each);
    await ports(agent, "outbound", { ...each, ephemeral: 0 });
  });
}

test("a connect from a port where nothing listens is outbound, whatever the port", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  await started(lab, network, kServer, [50051, 40200]);
  const agent = await lab.agent(network, { flags: ["--connections.cpu-budget=1"] });
  await started(lab, network, kClient, ["720:50051", "20:40200", "0:50051", "0:40200"]);
  await ports(agent, "outbound", { 50051: 2, 40200: 2 });
  await ports(agent, "inbound", { 50051: 2, 40200: 2, 720: 0, 20: 0 });
});

test("sockets that were bound and never listened make no client a server", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  await started(lab, network, kServer, [7777]);
  const agent = await lab.agent(network);
  await started(lab, network, kBinder, [5000]);
  await lab.runLoad(network, "churn", { port: 7700, count: 2000 });
  await eventually(10, () => {
    const page = agent.scrape();
    assert.equal(page.sum("tcp_connections_opened_total", { direction: "inbound", port: "ephemeral" }), 0);
    assert.equal(page.value("tcp_connections_opened_total", { direction: "inbound", port: "7700" }), 2000);
    assert.equal(page.value("tcp_connections_opened_total", { direction: "outbound", port: "7700" }), 2000);
  });
});

test("the limit on local ports follows the range, reserved ports subtracted", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const agent = await lab.agent(network, { flags: ["--connections.cpu-budget=1"] });
  const is = (limit: number) =>
    eventually(10, () => assert.equal(agent.scrape().value("tcp_ephemeral_ports_limit"), limit));
  await is(28232);
  setRange(network, 10000, 20000);
  await is(10001);
  network.run(["sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=8080,10000-10010"]);
  await is(9990);
  await started(lab, network, kServer, [7701]);
  await started(lab, network, kClient, Array<string>(50).fill("0:7701"));
  await eventually(10, () => {
    assert.equal(agent.scrape().value("tcp_ephemeral_ports_used", { port: "7701" }), 50);
  });
});

test("an accept queue is full over its limit, not at it", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const server = await started(
    lab,
    network,
    kServer.replace('listen(port, "127.0.0.1",', 'listen({ port, host: "127.0.0.1", backlog: 4 },'),
    [7202],
  );
  server.signal("SIGSTOP");
  const agent = await lab.agent(network, { flags: ["--connections.cpu-budget=1"] });
  const queue = (name: string) => agent.scrape().value(`tcp_listener_queue_${name}`, { port: "7202" });
  await started(lab, network, kClient, ["0:7202", "0:7202", "0:7202", "0:7202"]);
  await eventually(10, () => assert.equal(queue("length"), 4));
  assert.equal(queue("limit"), 4);
  assert.equal(queue("full_total"), 0);
  await started(lab, network, kClient, ["0:7202"]);
  await eventually(10, () => assert.equal(queue("length"), 5));
  await eventually(10, () => assert.ok(queue("full_total") > 0));
  server.signal("SIGCONT");
});

test("two ports of one name that listen on one address are one listener, and cost no collector", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  await started(lab, network, kServer, [5432, 6432]);
  const config = join(lab.dir, "tcpvitals.yml");
  writeFileSync(config, "connections: {ports: {postgres: [5432, 6432]}}\n");
  const agent = await lab.agent(network, { flags: [`--config.file=${config}`] });
  const page = agent.scrape();
  assert.equal(page.value("tcpvitals_collector_success", { collector: "connections" }), 1);
  assert.equal(page.value("tcp_listener_sockets", { port: "postgres", address: "127.0.0.1" }), 2);
});
