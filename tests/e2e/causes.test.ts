// Each way in which a connection of the embedded server ends, and what the audit log and the metrics call it.

import assert from "node:assert/strict";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { type Child, eventually, kBuild, kSource, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kCount = 3; // connections of each fate, side by side
const kFirstPort = 11_000;

// A fault of the network: nft rules for what comes in on loopback.
type Fault = (port: number) => string;

interface Fate {
  name: string; // of the listener too
  cause: string;
  errno?: string;
  listener?: string; // what it has beside an address, as YAML
  life: (string | Fault)[]; // steps of tcp_fates
  atEnd?: boolean; // when the agent ends
}

const vanishes: Fault = (port) => `tcp dport ${port} drop; tcp sport ${port} drop`;
const hearsNothing: Fault = (port) => `tcp sport ${port} drop`;
const getsNoData: Fault = (port) => `tcp sport ${port} ip length > 60 drop`;
const isUnreachable: Fault = (port) => `tcp sport ${port} ip length > 60 reject with icmp type host-unreachable`;

const hex = (text: string): string => Buffer.from(text, "latin1").toString("hex");
const kHalfAHello = "1603010200010001fc0303" + "5a".repeat(100); // of the 512 bytes that it announces
const kHttp = hex("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
const kProxyHeader = "PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\r\n";

const kTls = "tls: { certificate: CERTIFICATE, key: KEY }";
const kProxied = "proxy_protocol: { trusted: [127.0.0.1] }";
const kKeepAlive = "keepalive: { idle: 1s, interval: 1s, count: 2 }";
const kTalk = ["client connects", "client sends 100", "client reads 100"];
const kSmallWindow = "client has-buffers 0 4096";

const kFates: Fate[] = [
  { name: "ended", cause: "peer_fin", life: [...kTalk, "client shuts", "client ends"] },
  { name: "reset", cause: "peer_rst", errno: "ECONNRESET", life: [...kTalk, "client aborts"] },
  {
    name: "fin-not-acknowledged", // for the 10 s that the server waits for it
    cause: "unacknowledged",
    life: [...kTalk, hearsNothing, "client shuts"],
  },

  // Deadlines of the server.
  { name: "idle", cause: "idle_timeout", listener: "deadlines: { idle: 1s }", life: [...kTalk, "client ends"] },
  { name: "long", cause: "lifetime", listener: "deadlines: { lifetime: 1s }", life: [...kTalk, "client ends"] },
  {
    name: "half-a-hello",
    cause: "handshake_timeout",
    listener: `${kTls}\n      deadlines: { handshake: 1s }`,
    life: ["client connects", `client says ${kHalfAHello}`, "client ends"],
  },
  {
    name: "half-a-proxy-header",
    cause: "proxy_timeout",
    listener: `${kProxied}\n      deadlines: { proxy: 1s }`,
    life: ["client connects", `client says ${hex(kProxyHeader.slice(0, 20))}`, "client is-reset"],
  },
  {
    name: "window-closed",
    cause: "write_stall",
    listener: "deadlines: { write_stall: 1s }",
    life: [kSmallWindow, "client connects", "client floods"],
  },

  // The kernel's own.
  { name: "silent", cause: "keepalive_dead", errno: "ETIMEDOUT", listener: kKeepAlive, life: [...kTalk, vanishes] },
  {
    name: "answer-not-acknowledged",
    cause: "user_timeout",
    errno: "ETIMEDOUT",
    listener: "user_timeout: 1s",
    life: [...kTalk, getsNoData, "client sends 100"],
  },
  {
    name: "answer-unreachable",
    cause: "user_timeout",
    errno: "EHOSTUNREACH",
    listener: "user_timeout: 1s",
    life: [...kTalk, isUnreachable, "client sends 100"],
  },
  {
    name: "answer-not-taken", // it waits in the kernel, and nothing in the server
    cause: "user_timeout",
    errno: "ETIMEDOUT",
    listener: "user_timeout: 1s",
    life: [kSmallWindow, "client connects", "client sends 30000"],
  },
  {
    name: "fin-timed-out",
    cause: "user_timeout",
    errno: "ETIMEDOUT",
    listener: "user_timeout: 1s",
    life: [...kTalk, hearsNothing, "client shuts"],
  },

  // Of who is not what he should be.
  { name: "no-hello", cause: "tls_error", listener: kTls, life: ["client connects", `client says ${kHttp}`] },
  { name: "no-proxy-header", cause: "proxy_error", listener: kProxied, life: ["client connects", `client says ${kHttp}`] },
  {
    name: "denied-behind-a-proxy",
    cause: "denied",
    listener: `${kProxied}\n      deny: [198.51.100.0/24]`,
    life: ["client connects", `client says ${hex(kProxyHeader)}`],
  },
  {
    name: "no-backend",
    cause: "backend",
    listener: "handler: relay\n      backend: 127.0.0.1:9",
    life: ["client connects", "client is-reset"],
  },

  { name: "drained", cause: "drain", atEnd: true, life: [...kTalk, "client ends", "client closes"] },
  { name: "stopped", cause: "shutdown", atEnd: true, life: kTalk },
];

const portOf = (fate: Fate): number => kFirstPort + kFates.indexOf(fate);

function configure(lab: Lab, network: Network, audit: string): string {
  const file = (name: string): string => join(lab.dir, name);
  const curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=causes".split(" ");
  network.run(["openssl", "req", "-x509", ...curve, "-keyout", file("key"), "-out", file("crt")]);
  chmodSync(file("key"), 0o644); // the agent is nobody
  const listeners = kFates.map(
    (fate) => `    ${fate.name}:
      address: 127.0.0.1:${portOf(fate)}
      ${(fate.listener ?? "nodelay: true").replace("CERTIFICATE", file("crt")).replace("KEY", file("key"))}
`,
  );
  writeFileSync(
    file("tcpvitals.yml"),
    `server:\n  audit: { file: ${audit} }\n  drain: { timeout: 1s }\n  listeners:\n${listeners.join("")}`,
  );
  return file("tcpvitals.yml");
}

// Leads a fate up to where the server, or the network, has the next word; the program then waits.
async function lead(lab: Lab, network: Network, fate: Fate): Promise<Child> {
  const port = portOf(fate);
  const argv = [String(port), String(kCount), ...fate.life.map((s) => (typeof s === "string" ? s : "look")), "look"];
  const child = lab.start([...network.prefix, join(kBuild, "tcp_fates"), ...argv]);
  const look = async (): Promise<void> => assert.ok(await child.line(), `${fate.name}: ${child.stderr}`);
  for (const step of fate.life) {
    if (typeof step === "string") continue;
    await look();
    network.nft(`table ip fate${port} { chain in { type filter hook input priority 0; ${step(port)}; }; }`);
    child.tell("done");
  }
  return child;
}

interface Close {
  listener: string;
  cause: string;
  errno?: string;
}

// Of each listener, what its connections ended with.
function endsIn(audit: string): Map<string, string[]> {
  const ends = new Map<string, string[]>();
  for (const text of readFileSync(audit, "utf8").trim().split("\n")) {
    const line = JSON.parse(text) as Close & { event: string };
    assert.notEqual(line.event, "gap");
    if (line.event !== "close") continue;
    const end = [line.cause, line.errno ?? []].flat().join(" ");
    ends.set(line.listener, [...(ends.get(line.listener) ?? []), end]);
  }
  return ends;
}

// The causes that the documentation has.
function documented(): string[] {
  const [, section] = readFileSync(join(kSource, "docs/configuration.md"), "utf8").split("### Causes\n");
  const rows = section!.split("\n### ")[0]!.matchAll(/^\| (`.*?) \|/gm);
  return [...rows].flatMap(([, names]) => names!.replaceAll("`", "").split(", "));
}

const expected = ({ cause, errno }: Fate): string[] =>
  new Array<string>(kCount).fill(errno === undefined ? cause : `${cause} ${errno}`);

test("each fate of a connection has its cause, in the audit log and in the metrics", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const audit = lab.auditFile();
  const agent = await lab.agent(network, { flags: [`--config.file=${configure(lab, network, audit)}`] });
  await Promise.all(kFates.map((fate) => lead(lab, network, fate)));

  await t.test("every cause is documented", () => {
    const page = agent.scrape().samples("tcp_server_connections_closed_total");
    const causes = page.filter(({ labels }) => labels["listener"] === "ended").map(({ labels }) => labels["cause"]);
    assert.deepEqual(causes.sort(), documented().sort());
  });
  const living = kFates.filter((fate) => !fate.atEnd);
  for (const fate of living) {
    await t.test(`${fate.name}: ${fate.cause}`, async () => {
      await eventually(15, () => assert.deepEqual(endsIn(audit).get(fate.name), expected(fate)));
      const counted = agent
        .scrape()
        .samples("tcp_server_connections_closed_total")
        .filter(({ labels, value }) => labels["listener"] === fate.name && value > 0)
        .map(({ labels, value }) => [labels["cause"], value]);
      assert.deepEqual(counted, [[fate.cause, kCount]]);
    });
  }
  await t.test("the agent ends: those who end with it are drained, the others are cut", async () => {
    assert.equal(await agent.child.stop("SIGTERM"), 0);
    for (const fate of kFates) assert.deepEqual(endsIn(audit).get(fate.name), expected(fate));
  });
});
