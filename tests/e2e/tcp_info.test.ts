// What this kernel's tcp_info does not hold is absent everywhere, and all else is there. On a newer kernel
// than Debian 12's all of it is: ./dev kernels runs this on older ones.

import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";

import { eventually, finished, kBuild, Lab } from "./harness.js";

// Where each field ends in include/uapi/linux/tcp.h, by its name in a connection of the API; and what series
// it gives, for each group and for each listener of the embedded server.
const kFields: Record<string, { end: number; series?: string }> = {
  sent_bytes: { end: 208, series: "sent_bytes_total" },
  retransmitted_bytes: { end: 216, series: "retransmitted_bytes_total" },
  spurious_retransmissions: { end: 220, series: "spurious_retransmissions_total" },
  reordering_events: { end: 224 },
  out_of_order_segments: { end: 228 },
  send_window_bytes: { end: 232 },
  receive_window_bytes: { end: 236 },
  path_changes: { end: 240 },
  retransmission_timeouts: { end: 242, series: "retransmission_timeouts_total" },
};

test("what this kernel's tcp_info lacks is absent, and what it has is there", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const agent = await lab.agent(network, { flags: ["--connections.cpu-budget=1"] });
  const held = lab.load(network, "hold", { port: 22000, connections: 3, up: 1000 });
  await held.ready();

  const fates = lab.start([...network.prefix, join(kBuild, "tcp_fates"), "22001", "1", "look"]);
  const length = (JSON.parse((await fates.line())!) as { tcp_info: number }).tcp_info;
  fates.tell("seen");
  t.diagnostic(`${length} bytes of tcp_info`);
  const known = Object.keys(kFields).filter((name) => kFields[name]!.end <= length);

  const url = "http://127.0.0.1:10077/api/v1/connections?port=22000";
  // A search takes a dump, for which the budget may not be there at once.
  const reply = await eventually(5, () => network.run(["curl", "-sS", "--fail", url]));
  const { connections } = JSON.parse(reply) as { connections: Record<string, number>[] };
  assert.equal(connections.length, 6);
  for (const connection of connections) {
    assert.deepEqual(Object.keys(kFields).filter((name) => name in connection), known);
  }

  const { families } = agent.scrape();
  for (const { end, series } of Object.values(kFields)) {
    if (series === undefined) continue;
    for (const name of [`tcp_${series}`, `tcp_server_${series}`]) assert.equal(families.has(name), end <= length, name);
  }
  held.closeStdin();
  await finished(held);
});
