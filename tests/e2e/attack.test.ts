// Peers that mean no good, one kind after the other, while a thousand honest clients go on: none of them is
// lost, /metrics answers, memory and descriptors stay bounded, and the books balance afterwards.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import type { Exposition } from "./exposition.js";
import { type Agent, type Child, eventually, finished, kBuild, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kHonest = 1000;
const kSeconds = 6;

interface Attack {
  mode: string;
  port: number;
  count: number;
  cause?: string; // by which the server gets rid of it
  rejected?: string; // or for which it does not even take it
}

const kAttacks: Attack[] = [
  { mode: "flood", port: 10078, count: 100, rejected: "accept_rate" },
  { mode: "idle", port: 10081, count: 15_000, cause: "idle_timeout" },
  { mode: "greeting", port: 10082, count: 2000, cause: "handshake_timeout" },
  { mode: "drip", port: 10083, count: 2000, cause: "proxy_timeout" },
  { mode: "unread", port: 10081, count: 30, cause: "write_stall" },
  { mode: "halfopen", port: 10081, count: 200, cause: "keepalive_dead" },
  { mode: "random", port: 10082, count: 100, cause: "tls_error" },
  { mode: "random", port: 10083, count: 100, cause: "proxy_error" },
  { mode: "random", port: 10077, count: 20 },
];

function configure(lab: Lab, network: Network): string {
  const file = (name: string) => join(lab.dir, name);
  const days = "-nodes -days 2 -subj /CN=attacked".split(" ");
  const curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256".split(" ");
  network.run(["openssl", "req", "-x509", ...curve, ...days, "-keyout", file("key"), "-out", file("crt")]);
  network.run(["chmod", "644", file("key")]);
  const path = file("tcpvitals.yml");
  writeFileSync(
    path,
    `server:
  listeners:
    echo:
      address: 127.0.0.1:10078
      accept_rate: { soft: 2000, hard: 4000 }
    open:
      address: 127.0.0.1:10081
      keepalive: { idle: 1s, interval: 1s, count: 2 }
      deadlines: { idle: 4s, write_stall: 2s }
    secure:
      address: 127.0.0.1:10082
      tls: { certificate: ${file("crt")}, key: ${file("key")} }
      deadlines: { handshake: 2s }
    proxied:
      address: 127.0.0.1:10083
      proxy_protocol: { trusted: [127.0.0.0/8] }
      deadlines: { proxy: 2s }
`,
  );
  return path;
}

const memory = (agent: Agent): number =>
  1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${agent.child.pid}/status`, "utf8"))![1]);

const descriptors = (agent: Agent): number => readdirSync(`/proc/${agent.child.pid}/fd`).length;

function attack(lab: Lab, network: Network, mode: string, options: Record<string, number>): Child {
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return lab.start([...network.prefix, join(kBuild, "tcp_attack"), mode, ...flags]);
}

async function suffer(t: TestContext, lab: Lab, network: Network, agent: Agent, a: Attack): Promise<void> {
  const honest = attack(lab, network, "honest", { port: 10078, count: kHonest, seconds: kSeconds + 2 });
  await eventually(20, () => assert.match(honest.stdout, /ready/));
  const before = agent.scrape();
  const attackers = attack(lab, network, a.mode, { port: a.port, count: a.count, seconds: kSeconds });
  if (a.mode === "halfopen") {
    // They are there, then nothing of them is heard or reached any more.
    await sleep(500);
    network.nft("table ip gone { chain in { type filter hook input priority 0; ip daddr 127.1.0.0/16 drop; }; }");
  }
  let slowest = 0;
  let largest = 0;
  while (attackers.running) {
    const asked = Date.now();
    agent.text();
    slowest = Math.max(slowest, Date.now() - asked);
    largest = Math.max(largest, memory(agent));
    await sleep(500);
  }
  const did = await finished(attackers);
  if (a.mode === "halfopen") network.nft("delete table ip gone");
  const felt = await finished(honest);
  const after = await eventually(15, () => {
    const page = agent.scrape();
    assert.ok(page.sum("tcp_server_connections") <= 2, "all are gone but the scrape itself");
    return page;
  });
  const rise = (name: string, wanted: Record<string, string>): number =>
    sum(after, name, wanted) - sum(before, name, wanted);
  const ended = a.cause ? rise("tcp_server_connections_closed_total", { cause: a.cause }) : 0;
  const refused = a.rejected ? rise("tcp_server_connections_rejected_total", { reason: a.rejected }) : 0;
  t.diagnostic(
    `${a.mode} on ${a.port}: ${did["made"]} connections, ${ended} closed for ${a.cause ?? "-"}, ${refused} refused; ` +
      `honest p50 ${felt["p50_ms"]} p99 ${felt["p99_ms"]} worst ${felt["worst_ms"]} ms; ` +
      `/metrics ${slowest} ms at most; ${(largest / 2 ** 20).toFixed(1)} MiB`,
  );
  assert.equal(felt["lost"], 0, "no honest client lost its connection");
  assert.ok(felt["answers"]! > kHonest, `${felt["answers"]} answers`);
  assert.ok(did["made"]! >= a.count);
  if (a.cause) assert.ok(ended >= Math.min(a.count, 100), `${ended} closed for ${a.cause}`);
  if (a.rejected) assert.ok(refused > 0, `${refused} refused for ${a.rejected}`);
  assert.equal(
    rise("tcp_server_connections_accepted_total", {}),
    rise("tcp_server_connections_closed_total", {}) + sum(after, "tcp_server_connections", {}) -
      sum(before, "tcp_server_connections", {}),
  );
  assert.ok(largest < 128 * 2 ** 20, `${largest} bytes of memory`);
}

const sum = (page: Exposition, name: string, wanted: Record<string, string>): number =>
  page
    .samples(name)
    .filter(({ labels }) => Object.entries(wanted).every(([key, value]) => labels[key] === value))
    .reduce((total, { value }) => total + value, 0);

test("attacks of every kind, one after the other: honest clients do not notice", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const agent = await lab.agent(network, { flags: [`--config.file=${configure(lab, network)}`] });
  const resting = descriptors(agent);
  for (const a of kAttacks) await suffer(t, lab, network, agent, a);
  await eventually(10, () => assert.ok(descriptors(agent) <= resting + 4, "no descriptor is left over"));
});

test("out of descriptors the agent waits, at little cost, and answers scrapes", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const path = configure(lab, network);
  const agent = await lab.agent(network, { flags: [`--config.file=${path}`], descriptors: 800 });
  const holding = attack(lab, network, "idle", { port: 10081, count: 2000, seconds: 5 });
  await sleep(1500);
  const cpu = (): number => {
    const fields = readFileSync(`/proc/${agent.child.pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  };
  const before = cpu();
  await sleep(2000);
  const share = (cpu() - before) / 2;
  const page = agent.scrape();
  t.diagnostic(`${(100 * share).toFixed(1)} % of a core while ${sum(page, "tcp_server_connections", {})} of 2000 are in`);
  assert.ok(sum(page, "tcp_server_accept_pauses_total", { listener: "open" }) > 0);
  assert.ok(sum(page, "tcp_server_connections", { listener: "open" }) > 400);
  assert.ok(share < 0.2, `${share} of a core`);
  await finished(holding);
});
