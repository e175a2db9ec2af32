// The books of the connections collector: in each group, what came and did not go is there.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import type { Exposition, Labels } from "./exposition.js";
import { type Agent, eventually } from "./harness.js";

const kLive = ["established", "fin_wait1", "fin_wait2", "close_wait", "last_ack", "closing"];

export const inbound = (port: number): Labels => ({ direction: "inbound", port: String(port), peer: "loopback" });
export const outbound = (port: number): Labels => ({ direction: "outbound", port: String(port), peer: "loopback" });

// What came and did not go is what is there: in every group, at any moment.
export function assertBalanced(page: Exposition): void {
  for (const { labels, value: opened } of page.samples("tcp_connections_opened_total")) {
    const live = kLive.reduce((sum, state) => sum + page.value("tcp_connections", { ...labels, state }), 0);
    const closed = page.value("tcp_connections_closed_total", labels);
    const atStart = page.value("tcp_connections_at_start", labels);
    assert.equal(opened - closed + atStart, live, JSON.stringify(labels));
  }
}

// In which groups a counter rose, and by how much: what a wrong sum is made of.
export function risen(name: string, before: Exposition, after: Exposition): string {
  const rises = after.samples(name).map(({ labels, value }) => ({ labels, by: value - before.sum(name, labels) }));
  const shown = rises.filter(({ by }) => by !== 0).map(({ labels, by }) => `${JSON.stringify(labels)} ${by}`);
  return [name, ...shown].join("\n  ");
}

// A scrape's own: of the connection to the door and the one behind it, both ends.
export const kScrapeEvents = 4;

// When all events have come: the kernel sends them from a work queue, and a busy machine lets it wait. Those
// of a scrape come last.
export async function settled(agent: Agent): Promise<Exposition> {
  const events = (page: Exposition): number => page.value("tcpvitals_connection_events_total");
  return eventually(20, async () => {
    const before = agent.scrape();
    await sleep(500);
    const page = agent.scrape();
    assert.equal(events(page) - events(before), kScrapeEvents, "events still come");
    assertBalanced(page);
    return page;
  });
}
