// Each way that a connection can live and end, and what exactly it changes: everything that fates.ts does not
// name must stay as it was, in all groups.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { setTimeout } from "node:timers/promises";

import type { Exposition } from "./exposition.js";
import {
  type Changes, type Expected, type Fate, kCount, kFates, kWords, type Look, tellsRtos, type Told,
} from "./fates.js";
import { type Agent, type Child, eventually, kBuild, kOwnPorts, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kTolerance = 1e-6; // of seconds
const kCloseWaitThreshold = 1; // seconds, in the configuration

type Range = readonly [from: number, to: number];

// All that the collector says and a fate may change. Distributions: how often they were observed, for the
// values are times. Ports in use are only shown for the groups that use most: assertPortsUsed() asks.
function readValues(page: Exposition): Map<string, number> {
  const values = new Map<string, number>();
  for (const family of page.families.values()) {
    for (const { name, labels, value } of family.samples) {
      const { direction, port, peer, cgroup: _, netns: __, ...rest } = labels;
      const word = [kWords[name] ?? name, ...Object.values(rest)].join(" ");
      if (kOwnPorts.has(port!) || /_(bucket|sum)$|^tcp_ephemeral_ports_used$/.test(name)) continue;
      if (direction !== undefined) values.set(`${direction} ${port} ${peer}: ${word}`, value);
      if (name in kWords && direction === undefined) values.set(`agent: ${word}`, value);
    }
  }
  const retransmitted = page.sum("tcp_retransmitted_segments_total");
  values.set("agent: withheld", page.value("tcp_host_segments_retransmitted_total") - retransmitted);
  return values;
}

// One for each attempt, established, failed or pending, and what was repeated.
function synsOf(changes: Changes): Range {
  const words = Object.keys(changes).filter((word) => /^(opened|failed .*|now syn_sent|retransmitted SYNs)$/.test(word));
  const ends = words.map((word) => [changes[word]!].flat() as number[]);
  const sum = (pick: (range: number[]) => number): number => ends.reduce((all, range) => all + pick(range), 0);
  return [sum((range) => range[0]!), sum((range) => range.at(-1)!)];
}

// One fate, led in its own program on its own port.
class Trial {
  private readonly started = Date.now();
  private readonly before: Map<string, number>;

  constructor(
    private readonly fate: Fate,
    private readonly port: number,
    private readonly network: Network,
    private readonly agent: Agent,
  ) {
    this.before = readValues(agent.scrape());
  }

  private get count(): number {
    return this.fate.count ?? kCount;
  }

  async lead(lab: Lab): Promise<void> {
    const steps = this.fate.life.map((step) => (typeof step === "string" ? step : "look"));
    const program = [join(kBuild, "tcp_fates"), String(this.port), String(this.count)];
    const child = lab.start([...this.network.prefix, ...program, ...steps]);
    try {
      await this.follow(child);
    } catch (error) {
      // What it holds must not end in the middle of the next fate.
      await child.stop("SIGKILL");
      await setTimeout(1000);
      throw error;
    }
  }

  private async follow(child: Child): Promise<void> {
    let told: Told = { client: {}, server: {} };
    for (const step of this.fate.life) {
      if (typeof step === "string") continue;
      const line = await child.line();
      if (line === undefined) throw new Error(`ended too early: ${child.stderr}`);
      told = JSON.parse(line) as Told;
      await this.see(step, told);
      child.tell("seen");
    }
    assert.deepEqual([await child.end(), child.stderr], [0, ""]);
    await this.see(this.fate.end, told);
  }

  // Events are milliseconds late: what is wrong for good is wrong in a while, too. What comes too much, and
  // later, is a change that the next fate did not make.
  private async see({ expected, check }: Look, told: Told): Promise<void> {
    const wanted = expected(told);
    await eventually(2, () => {
      const page = this.agent.scrape();
      assert.deepEqual(this.differences(page, wanted), []);
      check?.({ page, told, network: this.network, port: this.port });
    });
  }

  // "outbound +1" in full.
  private group(short: string): string {
    const [direction, service = "+0", peer = this.fate.peer ?? "loopback"] = short.split(" ");
    const port = service.startsWith("+") ? this.port + Number(service) : service;
    return direction === "agent" ? direction : `${direction} ${port} ${peer}`;
  }

  // By series, the lowest and the highest change.
  private ranges(expected: Expected): Map<string, Range> {
    const ranges = new Map<string, Range>();
    const lived = (this.count * (Date.now() - this.started)) / 1000;
    for (const [short, changes] of Object.entries(expected)) {
      // Data or a FIN was outstanding for less than a tick of the kernel, or was not. What waits for a
      // close() grows old on a slow machine.
      const waiting = lived > this.count * kCloseWaitThreshold ? (changes["now close_wait"] ?? 0) : 0;
      const all: Changes = short === "agent" ? changes : {
        busy: [0, lived], "SYNs sent": synsOf(changes),
        "old close_waits": [0, waiting as number], "oldest close_wait": [0, waiting === 0 ? 0 : lived],
        ...changes,
      };
      for (const [word, change] of Object.entries(all)) {
        const [from, to] = typeof change === "number" ? [change, change] : change;
        const most = /^(busy|limited|oldest)/.test(word) ? lived : Infinity;
        ranges.set(`${this.group(short)}: ${word}`, [from * this.count, Math.min(to * this.count, most)]);
      }
    }
    return ranges;
  }

  // What changed otherwise than expected, one line each.
  private differences(page: Exposition, expected: Expected): string[] {
    const ranges = this.ranges(expected);
    const now = readValues(page);
    const wrong: string[] = [];
    const beyond = (key: string): number =>
      (now.get(key) ?? 0) - (this.before.get(key) ?? 0) - (ranges.get(key)?.[0] ?? 0);
    const belated = beyond("agent: late events");
    for (const key of new Set([...this.before.keys(), ...now.keys(), ...ranges.keys()])) {
      const [from, to] = ranges.get(key) ?? [0, 0];
      const change = (now.get(key) ?? 0) - (this.before.get(key) ?? 0);
      if (change >= from - kTolerance && change <= to + kTolerance) continue;
      if (change < 0 && key.endsWith("now time_wait")) continue; // an earlier fate's runs out
      if (key.endsWith("RTOs") && !tellsRtos(page)) continue;
      // A busy kernel may send an event after two dumps that did not show its connection: made whole.
      if (/vanished|late events/.test(key) && belated > 0 && beyond("agent: vanished") === belated) continue;
      wrong.push(`${key}: ${change} instead of ${from === to ? from : `${from} to ${to}`}`);
    }
    return wrong;
  }
}

// The kernel's own counts of everything together.
function readNstat(network: Network): Record<string, number> {
  return (JSON.parse(network.run(["nstat", "-asjz"])) as { kernel: Record<string, number> }).kernel;
}

// Of the kernel's counts what the page neither attributes nor calls unattributed: nothing, but for what was
// there before the agent.
function unaccounted(page: Exposition, nstat: Record<string, number>): Record<string, number> {
  const rest = (counter: string): number => page.value("tcpvitals_unattributed_connections", { counter });
  const opened = (direction: string): number => page.sum("tcp_connections_opened_total", { direction });
  const failed = page.sum("tcp_connection_failures_total");
  return {
    active: nstat["TcpActiveOpens"]! - opened("outbound") - failed - rest("active_opens"),
    passive: nstat["TcpPassiveOpens"]! - opened("inbound") - rest("passive_opens"),
    fails: nstat["TcpAttemptFails"]! - failed - rest("attempt_fails"),
  };
}

// What tcp_fates asks to be lost.
const kCutOff = `table inet faults {
  chain faults {
    type filter hook prerouting priority raw
    ip dscp cs1 drop
  }
}
`;

test("each fate of a connection changes what it should, and nothing else", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const neighbour = await lab.network(network);
  network.connect(neighbour, "2mbit");
  network.nft(kCutOff);
  neighbour.run(["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"]);
  // Who does not answer ARP is unreachable after one question, before a SYN is given up.
  network.run(["sysctl", "-qw", "net.ipv4.neigh.veth0.mcast_solicit=1"]);
  // A SYN is repeated once, and a connect fails after three seconds.
  network.run(["sysctl", "-eqw", "net.ipv4.tcp_syn_retries=1", "net.ipv4.tcp_syn_linear_timeouts=0"]);
  const config = join(lab.dir, "tcpvitals.yml");
  writeFileSync(config, `connections: {cpu_budget: 1, close_wait_threshold: ${kCloseWaitThreshold}s}\n`);
  const agent = await lab.agent(network, { flags: [`--config.file=${config}`] });

  const atStart = unaccounted(agent.scrape(), readNstat(network));
  for (const [i, fate] of kFates.entries()) {
    const port = 20_000 + 10 * i;
    if (fate.faults) network.nft(fate.faults(port));
    if (fate.rejects) neighbour.nft(fate.rejects(port));
    if (fate.neighbour) await lab.load(neighbour, "serve", { address: "10.77.0.2", port }).ready();
    await t.test(fate.name, () => new Trial(fate, port, network, agent).lead(lab));
  }
  await eventually(2, () => {
    const page = agent.scrape();
    const nstat = readNstat(network);
    assert.deepEqual(unaccounted(page, nstat), atStart);
    const retransmitted = page.sum("tcp_retransmitted_segments_total");
    const ratio = page.value("tcpvitals_attributed_retransmits_ratio");
    assert.equal(ratio, retransmitted / nstat["TcpRetransSegs"]!);
  });
});
