// Every connection is counted, and every byte of it, however short it lived.

import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { assertBalanced, inbound, outbound, risen, settled } from "./books.js";
import type { Labels } from "./exposition.js";
import { type Agent, finished, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kCount = Number(process.env["TCPVITALS_CONNECTIONS"] ?? 20_000);
const kAttempts = 5;
const kLives = ["tcp_connections_opened_total", "tcp_connections_closed_total"];

interface Lab20k {
  t: TestContext;
  lab: Lab;
  network: Network;
  agent: Agent;
}

interface Churned {
  rise: (name: string, labels: Labels) => number;
  risen: (name: string) => string;
  load: Record<string, number>;
}

// kCount connections, with so many scrapes while they come and go. On a busy machine the agent may be
// kept from its event buffer for too long; it then says that events were lost, and the round is void.
async function churn(
  { t, lab, network, agent }: Lab20k,
  scrapes: number,
  options: Record<string, string | number>,
): Promise<Churned> {
  for (let attempt = 1; attempt <= kAttempts; ++attempt) {
    const before = await settled(agent);
    const load = lab.load(network, "churn", { ...options, count: kCount });
    for (let i = 0; i < scrapes; ++i) {
      await sleep(100);
      assertBalanced(agent.scrape());
    }
    const done = await finished(load);
    const after = await settled(agent);
    const rise = (name: string, labels: Labels): number => after.sum(name, labels) - before.sum(name, labels);
    const lost = rise("tcpvitals_connection_events_lost_total", {});
    if (lost === 0) return { rise, risen: (name) => risen(name, before, after), load: done };
    t.diagnostic(`attempt ${attempt}: the agent reports ${lost} lost events`);
    await sleep(1000);
  }
  throw new Error(`events were lost in each of ${kAttempts} attempts`);
}

async function setUp(t: TestContext): Promise<Lab20k> {
  const lab = new Lab(t);
  const network = await lab.network();
  return { t, lab, network, agent: await lab.agent(network) };
}

const kOrderly = [
  { close: "client", port: 20001, address: "127.0.0.1" },
  { close: "server", port: 20002, address: "127.0.0.1" },
  { close: "both", port: 20003, address: "::1" },
];
for (const { close, port, address } of kOrderly) {
  test(`${kCount} connections to ${address}, first FIN by ${close}: exact to the byte`, async (t) => {
    const lab = await setUp(t);
    for (const scrapes of [0, 5]) {
      const { rise, risen, load } = await churn(lab, scrapes, { address, port, close, up: 100, down: 33 });
      const { up, down } = load;
      assert.deepEqual([up, down], [kCount * 100, kCount * 33]);
      for (const labels of [inbound(port), outbound(port)]) {
        for (const name of kLives) assert.equal(rise(name, labels), kCount, risen(name));
      }
      assert.equal(rise("tcp_received_bytes_total", inbound(port)), up);
      assert.equal(rise("tcp_sent_bytes_total", inbound(port)), down);
      assert.equal(rise("tcp_received_bytes_total", outbound(port)), down);
      assert.equal(rise("tcp_sent_bytes_total", outbound(port)), up);
    }
  });
}

// The socket of a client that does not wait is gone before the server's FIN arrives, or is not; the kernel
// counts a FIN as a byte received and does not say which it was.
test(`${kCount} connections that the client just closes: exact, but for the FIN of each`, async (t) => {
  const port = 20006;
  const lab = await setUp(t);
  const { rise, risen, load } = await churn(lab, 5, { port, close: "hangup", up: 100, down: 33 });
  for (const labels of [inbound(port), outbound(port)]) {
    for (const name of kLives) assert.equal(rise(name, labels), kCount, risen(name));
  }
  assert.equal(rise("tcp_sent_bytes_total", outbound(port)), load["up"]);
  assert.equal(rise("tcp_received_bytes_total", inbound(port)), load["up"]);
  const missing = load["down"]! - rise("tcp_received_bytes_total", outbound(port));
  assert.ok(missing >= 0 && missing <= kCount, `${missing} bytes missing`);
});

test(`${kCount} connections that the client aborts: exact, the unseen ones on port unknown`, async (t) => {
  const port = 20004;
  const unknown = { ...outbound(port), port: "unknown" };
  const lab = await setUp(t);
  for (const scrapes of [0, 5]) {
    const { rise, risen } = await churn(lab, scrapes, { port, close: "abort", up: 100 });
    for (const name of kLives) {
      assert.equal(rise(name, inbound(port)), kCount, risen(name));
      assert.equal(rise(name, outbound(port)) + rise(name, unknown), kCount, risen(name));
    }
  }
});

test("what was open before the agent is live, but counts as opened by none and as closed by its end", async (t) => {
  const port = 20005;
  const lab = new Lab(t);
  const network = await lab.network();
  const held = lab.load(network, "hold", { port, connections: 50 });
  await held.ready();
  const agent = await lab.agent(network);
  const before = await settled(agent);
  for (const labels of [inbound(port), outbound(port)]) {
    assert.equal(before.value("tcp_connections", { ...labels, state: "established" }), 50);
    assert.equal(before.value("tcp_connections_at_start", labels), 50);
    assert.equal(before.value("tcp_connections_opened_total", labels), 0);
  }
  held.closeStdin();
  await finished(held);
  const after = await settled(agent);
  for (const labels of [inbound(port), outbound(port)]) {
    assert.equal(after.value("tcp_connections_closed_total", labels), 50);
    assert.equal(after.value("tcp_connections_opened_total", labels), 0);
  }
});
