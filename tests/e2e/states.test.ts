// The agent's states are those of ss, all eleven of them.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import type { Exposition } from "./exposition.js";
import { kBuild, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kStates: Record<string, string> = {
  ESTAB: "established",
  "SYN-SENT": "syn_sent",
  "SYN-RECV": "syn_recv",
  "FIN-WAIT-1": "fin_wait1",
  "FIN-WAIT-2": "fin_wait2",
  "TIME-WAIT": "time_wait",
  UNCONN: "close",
  "CLOSE-WAIT": "close_wait",
  "LAST-ACK": "last_ack",
  LISTEN: "listen",
  CLOSING: "closing",
};

// What tcp_states needs to be lost, on its five ports.
const kFaults = `table inet faults {
  chain faults {
    type filter hook prerouting priority raw
    tcp dport 21001 drop
    tcp dport 21002 tcp flags & syn == 0 drop
    tcp dport 21003 tcp flags & fin == fin drop
    tcp sport 21004 tcp flags & fin == fin drop
  }
}
`;

// A socket or more in each state.
async function everyState(lab: Lab): Promise<Network> {
  const network = await lab.network();
  network.nft(kFaults);
  await lab.start([...network.prefix, join(kBuild, "tcp_states"), "21000"]).ready();
  return network;
}

function byState(network: Network): Record<string, number> {
  const counts = Object.fromEntries(Object.values(kStates).map((state) => [state, 0]));
  for (const line of network.run(["ss", "-tanH"]).trim().split("\n")) {
    counts[kStates[line.split(" ")[0]!]!]! += 1;
  }
  return counts;
}

const exported = (page: Exposition): Record<string, number> =>
  Object.fromEntries(page.samples("tcp_host_connections").map(({ labels, value }) => [labels["state"], value]));

test("tcp_host_connections equals ss -tan, zeros included", async (t) => {
  const lab = new Lab(t);
  const network = await everyState(lab);
  const agent = await lab.agent(network);
  const ss = byState(network);
  // The scrape sees itself: both ends of its own connection, and of the relay's to where it is answered.
  assert.deepEqual(exported(agent.scrape()), { ...ss, established: ss["established"]! + 4 });
  for (const state of Object.values(kStates)) {
    if (state !== "close") assert.ok(ss[state]! > 0, `no socket was in ${state}`);
  }
});

const kRefusals = { EPROTONOSUPPORT: 93, EPERM: 1 };

test("without sock_diag the states come from /proc/net/tcp, and equal ss -tan", async (t) => {
  const lab = new Lab(t);
  const network = await everyState(lab);
  const file = join(lab.dir, "tcpvitals.yml");
  writeFileSync(file, "connections: {cpu_budget: 1}");
  for (const [name, number] of Object.entries(kRefusals)) {
    const within = [join(kBuild, "tcp_refuse"), String(number)];
    const flags = [`--config.file=${file}`, "--web.enable-lifecycle"];
    const agent = await lab.agent(network, { within, flags });
    const { close, ...ss } = byState(network);
    assert.equal(typeof close, "number"); // sockets without a connection are not in those files
    const page = agent.scrape();
    assert.deepEqual(exported(page), { ...ss, established: ss["established"]! + 4 }, name);

    // What the kernel does not have is absent; what it denies has failed.
    const outcome = (what: string, collector: string): number =>
      page.value(`tcpvitals_collector_${what}`, { collector });
    const missing = name === "EPROTONOSUPPORT";
    assert.equal(outcome("available", "connections"), missing ? 0 : 1, name);
    assert.equal(outcome("success", "connections"), missing ? 1 : 0, name);
    assert.equal(outcome("available", "proc_tcp"), 1);
    assert.equal(page.value("tcpvitals_feature_available", { feature: "sock_diag" }), 0);

    const curl = (...args: string[]): string => network.run(["curl", "-sS", "-w", " %{http_code}", ...args]);
    assert.match(curl("http://127.0.0.1:10077/api/v1/connections"), /sock_diag.* 503$/s);
    assert.match(curl("-X", "POST", "http://127.0.0.1:10077/-/reload"), / 200$/);
    await agent.child.stop();
    const lines = agent.child.stderr.split("\n").filter((line) => line.includes("sock_diag"));
    assert.equal(lines.length, 1, `of: ${agent.child.stderr}`);
    assert.match(lines[0]!, missing ? /level=info .*tcp_diag/ : /level=warning .*not permitted/);
  }
});
