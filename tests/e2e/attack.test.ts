// Peers that mean no good, and neighbours on the same host, one kind after the other, while a thousand honest clients
// go on: none of them is lost, /metrics answers, memory and descriptors stay bounded, and the books balance afterwards.

import assert from "node:assert/strict";
import { chmodSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { type Exposition, parseExposition } from "./exposition.js";
import {
  type Agent, type Child, eventually, finished, kAttackers, kBuild, kMetrics, kPatience, Lab,
} from "./harness.js";
import type { Network } from "./network.js";

const kHonest = 1000;
const kSeconds = 6;
const kInner = 0; // the port of the HTTP server behind the door, which changes with each start

interface Site {
  lab: Lab;
  network: Network;
  agent: Agent;
  audit: string;
}

interface Attack {
  mode: string; // of tcp_attack, or of attackers.ts
  port: number;
  count: number;
  seconds?: number;
  cause?: string; // by which the server gets rid of it
  rejected?: string; // or for which it does not even take it
  answer?: string; // or what it gets: a status, a whole answer, an error
  meanwhile?: (site: Site) => Promise<() => unknown>; // what else goes wrong, and what ends that
}

const kScripted = ["bodies", "readers", "timeouts", "keys", "ports"]; // by attackers.ts

// Of the server the attackers hear the handshake, and nothing after it.
async function theyVanish({ network }: Site): Promise<() => unknown> {
  const after = "ip daddr 127.1.0.0/16 tcp flags & syn == 0 drop";
  network.nft(`table ip gone { chain in { type filter hook input priority 0; ${after}; }; }`);
  return () => network.nft("delete table ip gone");
}

// Else a client that reads nothing takes a megabyte all the same.
async function buffersAreSmall({ network }: Site): Promise<() => unknown> {
  return network.set("net.ipv4.tcp_rmem", "4096 16384 16384");
}

async function portsAreFew({ network }: Site): Promise<() => unknown> {
  return network.set("net.ipv4.ip_local_port_range", "64000 64199");
}

const linesLost = (site: Site): number => look(site).page.value("tcpvitals_log_lines_lost_total");

// Once stderr and the log's queue are full, every line is lost, those for the clients' sake too.
async function nobodyReadsTheLog(site: Site): Promise<() => unknown> {
  site.agent.child.stallStderr();
  await eventually(30, async () => {
    for (let i = 0; i < 100; ++i) {
      site.agent.child.signal("SIGUSR1");
      await sleep(1);
    }
    assert.ok(linesLost(site) > 0);
  });
  const lost = linesLost(site);
  return () => {
    assert.ok(linesLost(site) > lost, "lines of the attack are lost, and counted");
    site.agent.child.resumeStderr();
  };
}

const opens = (audit: string): number => readFileSync(audit, "utf8").split('"event":"open"').length - 1;

// By somebody who may read it, until the child is stopped.
async function lock(lab: Lab, audit: string): Promise<Child> {
  const stranger = lab.start(["flock", "--no-fork", audit, "sh", "-c", "echo locked; exec sleep 100"]);
  await eventually(10, () => assert.match(stranger.stdout, /locked/));
  return stranger;
}

async function theAuditLogIsLocked(site: Site): Promise<() => unknown> {
  const stranger = await lock(site.lab, site.audit);
  const before = opens(site.audit);
  return async () => {
    await eventually(5, () => assert.ok(opens(site.audit) > before + 100, "lines go on"));
    assert.equal(look(site).page.value("tcpvitals_audit_lines_lost_total"), 0);
    assert.ok(stranger.running);
    await stranger.stop();
  };
}

const kAttacks: Attack[] = [
  { mode: "flood", port: 10078, count: 100, rejected: "accept_rate" },
  { mode: "idle", port: 10081, count: 15_000, cause: "idle_timeout" },
  { mode: "greeting", port: 10082, count: 2000, cause: "handshake_timeout" },
  { mode: "drip", port: 10083, count: 2000, cause: "proxy_timeout" },
  { mode: "unread", port: 10081, count: 30, cause: "write_stall" },
  { mode: "halfopen", port: 10081, count: 200, cause: "keepalive_dead", meanwhile: theyVanish },
  { mode: "random", port: 10082, count: 100, cause: "tls_error" },
  { mode: "random", port: 10083, count: 100, cause: "proxy_error" },
  { mode: "random", port: 10077, count: 20 },
  { mode: "request", port: kInner, count: 250, seconds: 3 },
  { mode: "bodies", port: 10077, count: 40, seconds: 7, answer: "413", cause: "lifetime" },
  { mode: "readers", port: 10077, count: 15, seconds: 7, answer: "whole", cause: "write_stall" },
  { mode: "timeouts", port: 10077, count: 8, seconds: 4, answer: "whole" },
  { mode: "keys", port: 10082, count: 2, seconds: 7, cause: "write_stall", meanwhile: buffersAreSmall },
  { mode: "ports", port: 64_000, count: 200, seconds: 3, answer: "EADDRNOTAVAIL", meanwhile: portsAreFew },
  { mode: "flood", port: 10078, count: 100, seconds: 2, rejected: "accept_rate", meanwhile: nobodyReadsTheLog },
  { mode: "flood", port: 10078, count: 100, seconds: 2, rejected: "accept_rate", meanwhile: theAuditLogIsLocked },
];

function configure(lab: Lab, network: Network): { flag: string; audit: string } {
  const audit = lab.auditFile();
  const file = (name: string) => join(lab.dir, name);
  const days = "-nodes -days 2 -subj /CN=attacked".split(" ");
  const curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256".split(" ");
  network.run(["openssl", "req", "-x509", ...curve, ...days, "-keyout", file("key"), "-out", file("crt")]);
  network.run(["chmod", "644", file("key")]);
  const path = file("tcpvitals.yml");
  writeFileSync(
    path,
    `server:
  audit: { file: ${audit} }
  web:
    send_buffer: 65536
    deadlines: { write_stall: 2s }
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
      send_buffer: 8192
      deadlines: { handshake: 2s, write_stall: 2s }
    proxied:
      address: 127.0.0.1:10083
      proxy_protocol: { trusted: [127.0.0.0/8] }
      deadlines: { proxy: 2s }
`,
  );
  return { flag: `--config.file=${path}`, audit };
}

const memory = (agent: Agent): number =>
  1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${agent.child.pid}/status`, "utf8"))![1]);

const descriptors = (agent: Agent): number => readdirSync(`/proc/${agent.child.pid}/fd`).length;

function attack(lab: Lab, network: Network, mode: string, options: Record<string, string | number>): Child {
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const program = kScripted.includes(mode) ? kAttackers : [join(kBuild, "tcp_attack")];
  return lab.start([...network.prefix, ...program, mode, ...flags]);
}

// Another client of /metrics and /-/healthy, with a port of its own whatever is taken; how long the slower one took.
function look({ network }: Pick<Site, "network">): { page: Exposition; ms: number } {
  const client = ["--interface", "127.0.0.2", "--local-port", "20000-29999", "--max-time", String(10 * kPatience)];
  const ask = (url: string) => {
    const answer = network.run(["curl", "-sS", "--fail", ...client, "--write-out", "%{time_total}", url]);
    const end = answer.lastIndexOf("\n") + 1;
    return { text: answer.slice(0, end), ms: 1000 * Number(answer.slice(end)) };
  };
  const health = ask(new URL("/-/healthy", kMetrics).href);
  const metrics = ask(kMetrics);
  return { page: parseExposition(metrics.text), ms: Math.max(health.ms, metrics.ms) };
}

async function suffer(t: TestContext, site: Site, a: Attack): Promise<void> {
  const { lab, network, agent } = site;
  const port = a.port === kInner ? agent.innerPort() : a.port;
  const seconds = a.seconds ?? kSeconds;
  const honest = attack(lab, network, "honest", { port: 10078, count: kHonest, seconds: seconds + 1 });
  await eventually(20, () => assert.match(honest.stdout, /ready/));
  const before = agent.scrape();
  const undo = await a.meanwhile?.(site);
  const attackers = attack(lab, network, a.mode, { port, count: a.count, seconds });
  const waits: number[] = []; // ms
  let largest = 0;
  while (attackers.running) {
    const seen = look(site);
    waits.push(seen.ms);
    const failed = seen.page.samples("tcpvitals_collector_success").filter(({ value }) => value !== 1);
    assert.deepEqual(failed, [], "no scrape lacks a collector");
    largest = Math.max(largest, memory(agent));
    await sleep(500);
  }
  waits.sort((a, b) => a - b);
  const did = await finished(attackers);
  await undo?.();
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
    `${a.mode} on ${port}${a.meanwhile ? `, ${a.meanwhile.name}` : ""}: ${JSON.stringify(did)}, ` +
      `${ended} closed for ${a.cause ?? "-"}, ${refused} refused; ` +
      `honest p50 ${felt["p50_ms"]} p99 ${felt["p99_ms"]} worst ${felt["worst_ms"]} ms; ` +
      `/metrics and health ${median(waits).toFixed()} ms, ${waits.at(-1)!.toFixed()} at most; ` +
      `${(largest / 2 ** 20).toFixed(1)} MiB`,
  );
  assert.equal(felt["lost"], 0, "no honest client lost its connection");
  assert.ok(felt["answers"]! > kHonest, `${felt["answers"]} answers`);
  assert.ok(did["made"]! >= a.count);
  assert.ok(median(waits) < 1000 * kPatience, `${waits} ms`);
  // Of those that come again and again some came too late for that.
  const due = kScripted.includes(a.mode) ? a.count / 2 : a.count;
  if (a.cause) assert.ok(ended >= Math.min(due, 100), `${ended} closed for ${a.cause}`);
  if (a.rejected) assert.ok(refused > 0, `${refused} refused for ${a.rejected}`);
  if (a.answer) assert.ok(did[a.answer]! > 0, `${JSON.stringify(did)}: ${a.answer}`);
  assert.equal(
    rise("tcp_server_connections_accepted_total", {}),
    rise("tcp_server_connections_closed_total", {}) + sum(after, "tcp_server_connections", {}) -
      sum(before, "tcp_server_connections", {}),
  );
  assert.ok(largest < 128 * 2 ** 20, `${largest} bytes of memory`);
}

const median = (sorted: number[]): number => sorted[sorted.length >> 1]!;

const sum = (page: Exposition, name: string, wanted: Record<string, string>): number =>
  page
    .samples(name)
    .filter(({ labels }) => Object.entries(wanted).every(([key, value]) => labels[key] === value))
    .reduce((total, { value }) => total + value, 0);

test("attacks of every kind, one after the other: honest clients do not notice", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const { flag, audit } = configure(lab, network);
  const agent = await lab.agent(network, { flags: [flag, "--log.level=debug"] });
  const resting = descriptors(agent);
  for (const a of kAttacks) await suffer(t, { lab, network, agent, audit }, a);
  await eventually(10, () => assert.ok(descriptors(agent) <= resting + 4, "no descriptor is left over"));
});

test("out of descriptors the agent waits, at little cost, and answers scrapes", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const { flag } = configure(lab, network);
  const agent = await lab.agent(network, { flags: [flag], descriptors: 800 });
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

test("an audit log that somebody has locked for ever keeps the agent from nothing, its end included", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const { flag, audit } = configure(lab, network);
  writeFileSync(audit, "");
  chmodSync(audit, 0o666);
  await lock(lab, audit);
  const agent = await lab.agent(network, { flags: [flag] });
  const more = async (): Promise<void> => {
    const before = opens(audit);
    await finished(lab.start([...network.prefix, join(kBuild, "tcp_attack"), "mixed", "--port", "10078", "--count", "40"]));
    await eventually(10, () => assert.ok(opens(audit) >= before + 40));
  };
  await more();
  agent.child.signal("SIGUSR1");
  await eventually(10, () => assert.match(agent.child.stderr, /msg="audit log opened anew"/));
  await more();
  agent.child.signal("SIGTERM");
  await eventually(10, () => assert.equal(agent.child.running, false));
  assert.equal(await agent.child.end(), 0);
});
