// What the embedded server says of its own sockets is what the kernel says of them: the same port, seen by the
// server's TCP_INFO and by the connections collector, under loss.

import assert from "node:assert/strict";
import test from "node:test";

import type { Exposition } from "./exposition.js";
import { eventually, Lab } from "./harness.js";

const kPort = 10078;
const kConnections = 8;
const kRoundTrips = 300;
const kBytes = 3000; // two or three segments, in each direction of a round trip

// Of segments with data alone, so that no handshake suffers; the server's answers and the clients' questions.
const kFaults = `table ip faults {
  counter dropped { }
  chain in {
    type filter hook input priority 0
    tcp sport ${kPort} ip length > 100 numgen random mod 100 < 3 counter name dropped drop
    tcp dport ${kPort} ip length > 100 numgen random mod 100 < 3 counter name dropped drop
  }
}
`;

const kSame = [
  ["tcp_server_sent_bytes_total", "tcp_sent_bytes_total"],
  ["tcp_server_received_bytes_total", "tcp_received_bytes_total"],
  ["tcp_server_retransmitted_bytes_total", "tcp_retransmitted_bytes_total"],
  ["tcp_server_data_segments_sent_total", "tcp_data_segments_sent_total"],
  ["tcp_server_retransmitted_segments_total", "tcp_retransmitted_segments_total"],
  ["tcp_server_spurious_retransmissions_total", "tcp_spurious_retransmissions_total"],
  ["tcp_server_retransmission_timeouts_total", "tcp_retransmission_timeouts_total"],
  ["tcp_server_min_rtt_seconds_count", "tcp_min_rtt_seconds_count"],
  ["tcp_server_min_rtt_seconds_sum", "tcp_min_rtt_seconds_sum"],
] as const;

test("the server's view of its connections is the kernel's, under loss", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const agent = await lab.agent(network);
  network.nft(kFaults);
  await lab.runLoad(network, "pingpong", { port: kPort, connections: kConnections, count: kRoundTrips, up: kBytes });

  const own = (page: Exposition, name: string): number => page.sum(name, { listener: "echo" });
  const kernel = (page: Exposition, name: string): number =>
    page.sum(name, { direction: "inbound", port: String(kPort) });
  await eventually(20, () => {
    const page = agent.scrape();
    assert.equal(own(page, "tcp_server_connections"), 0);
    assert.equal(kernel(page, "tcp_connections_closed_total"), kConnections);
    for (const [mine, theirs] of kSame) {
      const difference = Math.abs(own(page, mine) - kernel(page, theirs));
      assert.ok(difference < 1e-9, `${mine} ${own(page, mine)}, ${theirs} ${kernel(page, theirs)}`);
    }
  });
  const page = agent.scrape();
  const dropped = network.nftCounter("dropped").packets;
  const retransmitted = own(page, "tcp_server_retransmitted_segments_total");
  t.diagnostic(
    `${dropped} dropped, ${retransmitted} retransmitted by the server of ` +
      `${own(page, "tcp_server_data_segments_sent_total")} data segments; ${kSame.length} numbers the same`,
  );
  assert.ok(dropped > 50 && retransmitted > 20);
  assert.equal(own(page, "tcp_server_received_bytes_total"), kConnections * kRoundTrips * kBytes);
});
