// Retransmissions are attributed to the group they belong to, and agree with the network that lost the
// packets and with the kernel's own total.

import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import type { Labels } from "./exposition.js";
import { finished, kPatience, Lab } from "./harness.js";

const kLossy = 9001;
const kClean = 9002;
const kBytes = 5_000_000; // of each connection

// At the receiver's door: there a lost packet is lost for both. Data only, so that no handshake suffers: who
// sends it has no other option than timestamps, so that 52 bytes are a head alone.
const kData = "tcp flags & syn == 0 ip length > 52";
const kFaults = `table inet faults {
  counter data { }
  counter dropped { }
  counter clean { }
  chain faults {
    type filter hook prerouting priority raw
    tcp dport ${kLossy} ${kData} counter name data
    tcp dport ${kLossy} ${kData} numgen random mod 100 < 3 counter name dropped drop
    tcp dport ${kClean} ${kData} counter name clean
  }
}
`;

const outbound = (port: number): Labels => ({ direction: "outbound", port: String(port), peer: "private" });

test("retransmissions equal the packets that were dropped, group by group and in sum", async (t) => {
  const lab = new Lab(t);
  const sender = await lab.network();
  const receiver = await lab.network(sender);
  sender.connect(receiver, "60mbit");
  receiver.nft(kFaults);
  const servers = [kLossy, kClean].map((port) => lab.load(receiver, "serve", { address: "10.77.0.2", port }));
  await Promise.all(servers.map((server) => server.ready()));
  const agent = await lab.agent(sender);
  const before = agent.scrape();

  const sent = await Promise.all(
    [kLossy, kClean].map((port) =>
      lab.runLoad(sender, "send", { address: "10.77.0.2", port, connections: 4, up: kBytes }),
    ),
  );
  assert.deepEqual(sent.map((s) => s["sent"]), [4 * kBytes, 4 * kBytes]);
  await sleep(500);
  const after = agent.scrape();
  const rise = (name: string, labels: Labels = {}): number =>
    after.sum(name, labels) - before.sum(name, labels);

  const data = receiver.nftCounter("data");
  const dropped = receiver.nftCounter("dropped");
  assert.ok(data.bytes / data.packets <= 1500, "packets on the cable are larger than segments");
  assert.ok(dropped.packets > 200, `only ${dropped.packets} packets were dropped`);

  const retransmitted = rise("tcp_retransmitted_segments_total", outbound(kLossy));
  const spurious = rise("tcp_spurious_retransmissions_total", outbound(kLossy));
  const difference = Math.abs(retransmitted - spurious - dropped.packets);
  t.diagnostic(`${dropped.packets} dropped, ${retransmitted} retransmitted, ${spurious} spurious`);
  // A tail-loss probe may repeat a segment that was lost as well as one that was not.
  assert.ok(difference <= 2 + dropped.packets / 100);

  // What was sent passed the counter before the dice, first time or again.
  assert.equal(rise("tcp_data_segments_sent_total", outbound(kLossy)), data.packets);

  // The other port lost nothing: what it repeats was needless, and the kernel finds that out, where the CPU is
  // emulated most of the time.
  const needless = rise("tcp_spurious_retransmissions_total", outbound(kClean));
  assert.equal(rise("tcp_data_segments_sent_total", outbound(kClean)), receiver.nftCounter("clean").packets);
  const repeated = rise("tcp_retransmitted_segments_total", outbound(kClean));
  if (kPatience === 1) assert.equal(repeated, needless);
  assert.ok(repeated >= needless, `${repeated} repeated, ${needless} spurious`);
  t.diagnostic(`the other port: ${repeated} retransmitted, ${needless} spurious`);
  assert.equal(
    rise("tcp_retransmitted_segments_total"),
    rise("tcp_host_segments_retransmitted_total"),
    "the groups do not add up to the host",
  );
  for (const server of servers) server.closeStdin();
  for (const server of servers) await finished(server);
});
