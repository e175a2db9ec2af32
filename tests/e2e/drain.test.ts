// What a stopping agent does with the connections it has, and with the signals that still come.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { type Agent, eventually, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kReady = "http://127.0.0.1:10077/-/ready";

// A client that takes the end of the stream for nothing: it goes on holding its connection.
async function holder(lab: Lab, network: Network, agent: Agent): Promise<void> {
  const connect = 'require("net").connect({ port: 10078, allowHalfOpen: true }).on("data", () => {}).write("a")';
  const script = `${connect}; setInterval(() => {}, 1000)`;
  lab.start([...network.prefix, process.execPath, "-e", script]);
  await eventually(5, () => assert.equal(agent.scrape().value("tcp_server_connections", { listener: "echo" }), 1));
}

test("a second SIGTERM ends a drain at once; other signals are ignored, and the log says so", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const agent = await lab.agent(network);
  await holder(lab, network, agent);
  agent.child.signal("SIGTERM");
  await eventually(5, () => assert.match(agent.child.stderr, /msg=stopping/));
  await sleep(1500);
  for (const signal of ["SIGHUP", "SIGUSR2"] as const) agent.child.signal(signal);
  await eventually(5, () => {
    assert.match(agent.child.stderr, /level=warning msg="signal ignored: stopping" signal=Hangup/);
    assert.match(agent.child.stderr, /level=warning msg="signal ignored: stopping" signal="User defined signal 2"/);
  });
  assert.ok(agent.child.running, "it waits for the connection that is left");
  const asked = Date.now();
  assert.equal(await agent.child.stop("SIGTERM"), 0);
  assert.ok(Date.now() - asked < 1500, `${Date.now() - asked} ms`);
  assert.match(agent.child.stderr, /msg="not waiting any longer" signal=Terminated/);
  assert.match(agent.child.stderr, /msg=stopped drained=false/);
});

test("drain.wait: not ready, but still accepting; drain.timeout: then it ends, whoever is left", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const path = join(lab.dir, "tcpvitals.yml");
  writeFileSync(path, "server: { drain: { wait: 2s, timeout: 2s } }\n");
  const agent = await lab.agent(network, { flags: [`--config.file=${path}`] });
  const status = (): string =>
    network.run(["curl", "-sS", "-o", "/dev/null", "--max-time", "5", "-w", "%{http_code}", kReady]);
  assert.equal(status(), "200");
  await holder(lab, network, agent);
  const asked = Date.now();
  agent.child.signal("SIGTERM");
  await eventually(1, () => assert.equal(status(), "503"));
  assert.ok(agent.text().includes("tcp_server_connections"));
  assert.equal(await agent.child.end(), 0);
  const took = Date.now() - asked;
  assert.ok(took > 3900 && took < 6000, `${took} ms`);
});
