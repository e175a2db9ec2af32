// The agent's states are those of ss, all eleven of them.

import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";

import { kBuild, Lab } from "./harness.js";

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

test("tcp_host_connections equals ss -tan, zeros included", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  network.nft(kFaults);
  const agent = await lab.agent(network);
  const states = lab.start([...network.prefix, join(kBuild, "tcp_states"), "21000"]);
  await states.ready();

  const counted = (): Record<string, number> => {
    const counts = Object.fromEntries(Object.values(kStates).map((state) => [state, 0]));
    for (const line of network.run(["ss", "-tanH"]).trim().split("\n")) {
      counts[kStates[line.split(" ")[0]!]!]! += 1;
    }
    return counts;
  };
  const ss = counted();
  const page = agent.scrape();
  const exported = Object.fromEntries(
    page.samples("tcp_host_connections").map(({ labels, value }) => [labels["state"], value]),
  );
  // The scrape sees itself: both ends of its own connection, and of the relay's to where it is answered.
  assert.deepEqual(exported, { ...ss, established: ss["established"]! + 4 });

  for (const state of Object.values(kStates)) {
    if (state !== "close") assert.ok(ss[state]! > 0, `no socket was in ${state}`);
  }
});
