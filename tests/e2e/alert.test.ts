// Real loss makes the shipped alert fire in a real Prometheus; a healthy network leaves it silent.

import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { renderRules, scaleGroups } from "../../alerts/render.js";
import { ruleGroups } from "../../alerts/rules.js";
import { eventually, Lab } from "./harness.js";

const kAlert = "TcpRetransmitsHigh";
const kScale = 1 / 60; // minutes become seconds

const kLoss = `table inet faults {
  chain faults {
    type filter hook prerouting priority raw
    tcp dport 9001 ip length > 100 numgen random mod 100 < 12 drop
  }
}
`;

test(`${kAlert} stays silent without loss and fires with it`, async (t) => {
  const lab = new Lab(t);
  const sender = await lab.network();
  const receiver = await lab.network(sender);
  sender.connect(receiver, "200mbit");
  const server = lab.load(receiver, "serve", { address: "10.77.0.2", port: 9001 });
  await server.ready();
  await lab.agent(sender);
  const prometheus = await lab.prometheus(sender, renderRules(scaleGroups(ruleGroups(), kScale)));
  lab.load(sender, "send", {
    address: "10.77.0.2",
    port: 9001,
    connections: 4,
    rate: 500_000,
    up: 500_000 * 100,
  });

  // Longer than it takes to fire: the window of 5 s and the 10 s that it must last.
  for (let second = 0; second < 25; ++second) {
    await sleep(1000);
    assert.ok(!prometheus.alerts(kAlert).some((alert) => alert.endsWith("firing")));
  }
  const [healthy] = prometheus.query("tcp_retrans");
  assert.ok(healthy !== undefined && healthy < 0.01, `tcp_retrans without loss: ${healthy}`);

  receiver.nft(kLoss);
  await eventually(60, () => {
    const alerts = prometheus.alerts(kAlert);
    const ratio = prometheus.query("tcp_retrans");
    assert.ok(alerts.includes("critical firing") && alerts.includes("warning firing"), `${alerts} at ${ratio}`);
  });

  receiver.run(["nft", "flush", "ruleset"]);
  await eventually(30, () => assert.doesNotMatch(prometheus.alerts(kAlert).join(), /(critical|warning) firing/));
});
