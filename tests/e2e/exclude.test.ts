// Excludes and the real agent: what the kernel leaves out is nowhere in the account, what it does not leave out
// is there to the last connection, and a reload moves the border without a counter that falls.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import type { Exposition, Labels } from "./exposition.js";
import { type Agent, eventually, finished, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kHidden = 9401;
const kPlain = 9402;
const kCount = 2000;
const kElsewhere = { address: "127.0.0.2" }; // where nothing is held on the same port
const kLive = ["established", "fin_wait1", "fin_wait2", "close_wait", "last_ack", "closing"];

const inbound = (port: number): Labels => ({ direction: "inbound", port: String(port), peer: "loopback" });
const outbound = (port: number): Labels => ({ direction: "outbound", port: String(port), peer: "loopback" });
const exclude = (what: string): string => `connections:\n  exclude: {${what}}\n`;

class Excluding {
  private constructor(
    private readonly lab: Lab,
    private readonly network: Network,
    private readonly path: string,
    readonly agent: Agent,
  ) {}

  static async start(t: TestContext, config: string, unprivileged = true): Promise<Excluding> {
    const lab = new Lab(t);
    const network = await lab.network();
    const path = join(lab.dir, "tcpvitals.yml");
    writeFileSync(path, config);
    const agent = await lab.agent(network, { flags: [`--config.file=${path}`], unprivileged });
    return new Excluding(lab, network, path, agent);
  }

  async hold(port: number, connections: number) {
    const held = this.lab.load(this.network, "hold", { port, connections });
    await held.ready();
    return held;
  }

  start(port: number, options: Record<string, string | number> = {}) {
    return this.lab.load(this.network, "churn", { port, count: kCount, close: "client", up: 10, ...options });
  }

  async churn(port: number, options: Record<string, string | number> = {}): Promise<void> {
    await finished(this.start(port, options));
  }

  // As ss counts them.
  listeners(): number {
    return this.network.run(["ss", "-ltnH"]).trim().split("\n").length;
  }

  // When what is expected has come, and nothing more comes: the kernel sends events from a work queue.
  async settled(check: (page: Exposition) => void): Promise<Exposition> {
    const attempt = (): Exposition => {
      const page = this.agent.scrape();
      assertBalanced(page);
      check(page);
      return page;
    };
    await eventually(10, attempt);
    await sleep(300);
    return attempt();
  }

  async reload(config: string): Promise<Exposition> {
    const reloads = (page: Exposition): number =>
      page.value("tcpvitals_config_reloads_total", { outcome: "success" });
    const before = reloads(this.agent.scrape());
    writeFileSync(this.path, config);
    process.kill(this.agent.child.pid, "SIGHUP");
    return eventually(10, () => {
      const page = this.agent.scrape();
      assert.equal(reloads(page), before + 1);
      return page;
    });
  }
}

function live(page: Exposition, labels: Labels): number {
  return kLive.reduce((sum, state) => sum + page.sum("tcp_connections", { ...labels, state }), 0);
}

// What came and did not go is what is there, in every group.
function assertBalanced(page: Exposition): void {
  for (const { labels, value: opened } of page.samples("tcp_connections_opened_total")) {
    const closed = page.sum("tcp_connections_closed_total", labels);
    const atStart = page.value("tcp_connections_at_start", labels);
    assert.equal(opened - closed + atStart, live(page, labels), JSON.stringify(labels));
  }
}

// Every counter of `before`, a histogram's included, is still there and no lower. A listener's ends with it.
function assertNoneFell(before: Exposition, after: Exposition): void {
  for (const family of before.families.values()) {
    const cumulative = family.type === "counter" || family.type === "histogram";
    if (!cumulative || family.name.startsWith("tcp_listener_")) continue;
    const now = new Map(
      after.samples(family.name).concat(...["_bucket", "_sum", "_count"].map((s) => after.samples(family.name + s)))
        .map((s) => [s.name + JSON.stringify(s.labels), s.value]),
    );
    for (const { name, labels, value } of family.samples) {
      const key = name + JSON.stringify(labels);
      assert.ok(now.get(key)! >= value, `${key}: ${value}, then ${now.get(key)}`);
    }
  }
}

function assertChurned(page: Exposition, labels: Labels, opened: number, closed = opened): void {
  assert.equal(page.sum("tcp_connections_opened_total", labels), opened, JSON.stringify(labels));
  assert.equal(page.sum("tcp_connections_closed_total", labels), closed, JSON.stringify(labels));
}

function assertNoTrace(page: Exposition, labels: Labels): void {
  for (const [name] of page.families) {
    if (name.startsWith("tcp_listener_")) continue;
    assert.deepEqual(page.samples(name, labels), []);
  }
}

test("an excluded port leaves no trace: no group, no tracked connection, no event; the listener is still told", async (t) => {
  const e = await Excluding.start(t, exclude(`ports: [${kHidden}, 10077]`));
  await e.hold(kHidden, 30);
  await e.hold(kPlain, 5);
  const check = (page: Exposition): void => {
    assertNoTrace(page, { port: String(kHidden) });
    assert.equal(page.value("tcpvitals_tracked_connections"), 10);
    assert.equal(live(page, {}), 10);
    assert.equal(page.value("tcpvitals_host_states_complete"), 0);
    assert.equal(page.value("tcp_listener_queue_limit", { port: String(kHidden) }), 4096);
    assert.equal(page.value("tcp_host_connections", { state: "established" }), 10);
    assert.equal(page.value("tcp_host_connections", { state: "listen" }), e.listeners());
  };
  const events = (page: Exposition): number => page.value("tcpvitals_connection_events_total");
  const before = events(await e.settled(check));
  await e.churn(kHidden, kElsewhere);
  await e.churn(kHidden, { address: "::1" });
  await e.churn(kPlain + 1, { count: 1 }); // its two events do come
  await e.settled((page) => {
    check(page);
    assert.equal(events(page) - before, 2);
  });
});

test("an excluded peer is left out at the end that it is the peer of", async (t) => {
  const e = await Excluding.start(t, exclude(`peers: [127.0.0.2, "::1"], ports: 10077`));
  await e.churn(kPlain, { sources: 2 });
  await e.churn(kPlain + 1, { address: "::1" });
  await e.settled((page) => {
    assertChurned(page, outbound(kPlain), kCount);
    assertChurned(page, inbound(kPlain), kCount / 2);
    assertNoTrace(page, { port: String(kPlain + 1) });
  });
});

test("without loopback nothing is left where nothing else is, whatever the family", async (t) => {
  const e = await Excluding.start(t, exclude("loopback: true"));
  await e.hold(kPlain, 20);
  await e.churn(kHidden, { address: "::1" });
  await e.churn(kHidden, { address: "::ffff:127.0.0.1" });
  await e.churn(kHidden, { close: "abort" });
  await sleep(1000); // nothing is to come that could be waited for
  await e.settled((page) => {
    assert.deepEqual(page.samples("tcp_connections_opened_total"), []);
    assert.equal(page.value("tcpvitals_tracked_connections"), 0);
    assert.equal(page.value("tcpvitals_connection_events_total"), 0);
  });
});

// The kernel clears the remote port of a client's socket that closes with zero linger, before the event is sent.
test("an abort that no dump saw is excluded by its address or local port, but not by the port it forgot", async (t) => {
  const e = await Excluding.start(t, exclude(`ports: [${kHidden}, 10077]`));
  await e.churn(kHidden, { close: "abort" });
  await e.settled((page) => {
    assertNoTrace(page, { port: String(kHidden) });
    assertChurned(page, { direction: "outbound", port: "unknown", peer: "loopback" }, kCount);
    assertChurned(page, { direction: "inbound" }, 0);
  });
});

test("a reload that excludes a port, and one that lets it in again: the books balance and nothing falls", async (t) => {
  const none = exclude("ports: [10077]");
  const hidden = exclude(`ports: [10077, ${kHidden}]`);
  const e = await Excluding.start(t, none, false); // a large buffer: no event is lost while the load is heavy
  const held = await e.hold(kHidden, 50);
  await e.hold(kPlain, 5);
  await e.churn(kHidden, kElsewhere);
  const ends = [inbound(kHidden), outbound(kHidden)];
  const open = await e.settled((page) => {
    for (const labels of ends) assertChurned(page, labels, kCount + 50, kCount);
  });

  // While connections come and go.
  const pages = [open];
  const during = e.start(kHidden, { ...kElsewhere, count: 20_000 });
  for (const config of [hidden, none, hidden]) {
    await sleep(100);
    pages.push(await e.reload(config));
  }
  await finished(during);
  // A socket that was gone before the reload's dump, and its event kept out after it, ends by its absence.
  const out = await e.settled((page) => {
    for (const labels of ends) assert.equal(live(page, labels), 0);
  });
  pages.push(out);
  for (const [i, page] of pages.slice(1).entries()) {
    assertBalanced(page);
    assertNoneFell(pages[i]!, page);
  }

  // Out of the account.
  const of = (page: Exposition, labels: Labels): number[] =>
    ["tcp_connections_opened_total", "tcp_connections_closed_total", "tcp_sent_bytes_total"].map((name) =>
      page.sum(name, labels),
    );
  await e.churn(kHidden, kElsewhere);
  await e.churn(kPlain + 1, { count: 1 });
  const still = await e.settled((page) => {
    assertChurned(page, outbound(kPlain + 1), 1);
    for (const labels of ends) {
      assert.equal(live(page, labels), 0);
      assert.deepEqual(of(page, labels), of(out, labels));
    }
    assert.equal(page.value("tcpvitals_tracked_connections"), 10);
  });

  // In again: those that were there are a baseline.
  const back = await e.reload(none);
  assertBalanced(back);
  assertNoneFell(still, back);
  for (const labels of ends) assert.equal(live(back, labels), 50);
  await e.churn(kHidden, kElsewhere);
  held.closeStdin();
  await finished(held);
  const end = await e.settled((page) => {
    for (const labels of ends) {
      const sent = labels["direction"] === "outbound" ? kCount * 10 : 0;
      const rises = of(page, labels).map((value, i) => value - of(still, labels)[i]!);
      assert.deepEqual(rises, [kCount, kCount + 50, sent]);
    }
  });
  assertNoneFell(back, end);
  assert.equal(end.value("tcpvitals_connection_events_lost_total"), 0);
});

test("without excludes tcp_host_connections is whole, and says so", async (t) => {
  const e = await Excluding.start(t, "connections: {}\n");
  const complete = (page: Exposition): number => page.value("tcpvitals_host_states_complete");
  assert.equal(complete(e.agent.scrape()), 1);
  assert.equal(complete(await e.reload(exclude("loopback: true"))), 0);
  assert.equal(complete(await e.reload("connections: {}\n")), 1);
});
