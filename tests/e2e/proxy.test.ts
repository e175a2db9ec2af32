// Debian's haproxy and nginx in front of the embedded server, with the configurations of docs/examples: the audit
// log has the true clients, health checks are told apart, and nobody else is believed.

import assert from "node:assert/strict";
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { eventually, finished, kBuild, kSource, Lab } from "./harness.js";

const kExamples = join(kSource, "docs/examples");
const kTools = join(kSource, "build/tools");
const kFronts = [
  { name: "haproxy, version 2", port: 10000 },
  { name: "haproxy, version 1", port: 10001 },
  { name: "nginx, version 1", port: 10002 },
];
const kClients = 8; // of tcp_attack mixed: each from 127.2.0.0/16

interface Line {
  event: string;
  id: number;
  peer: string;
  local?: string;
  via?: string;
  probe?: boolean;
  why?: string;
  cause?: string;
}

test("behind haproxy and nginx the audit log has the true clients, and probes apart", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const file = (name: string) => join(lab.dir, name);
  const copy = (name: string, change = (text: string) => text): string => {
    writeFileSync(file(name), change(readFileSync(join(kExamples, name), "utf8")));
    return file(name);
  };
  const audit = lab.auditFile();
  const config = copy("behind-proxy.yml", (text) => text.replace("/var/log/tcpvitals/audit.jsonl", audit));
  const agent = await lab.agent(network, { flags: [`--config.file=${config}`] });

  const haproxy = join(kTools, "haproxy/usr/sbin/haproxy");
  network.run([haproxy, "-c", "-f", copy("haproxy.cfg")]);
  const first = lab.start([...network.prefix, haproxy, "-db", "-f", file("haproxy.cfg")]);
  symlinkSync(join(kTools, "libnginx-mod-stream/usr/lib/nginx/modules"), file("modules"));
  const inHere = `daemon off; master_process off; pid ${file("nginx.pid")}; error_log stderr;`;
  const second = lab.start([
    ...network.prefix,
    ...[join(kTools, "nginx/usr/sbin/nginx"), "-p", lab.dir, "-c", copy("nginx.conf"), "-g", inHere],
  ]);
  await eventually(10, () => {
    const listening = network.run(["ss", "-tlnH"]);
    for (const { port } of kFronts) assert.ok(listening.includes(`:${port} `), first.stderr + second.stderr);
  });

  for (const { port } of kFronts) {
    const load = ["mixed", "--port", String(port), "--count", String(kClients)];
    await finished(lab.start([...network.prefix, join(kBuild, "tcp_attack"), ...load]));
  }
  // Who is no proxy says that it is one, and for whom.
  assert.throws(() =>
    network.run([
      ...["curl", "-sS", "--max-time", "5", "--interface", "127.0.0.6"],
      ...["--haproxy-protocol", "http://127.0.0.1:10078/"],
    ]),
  );

  const lines = (): Line[] =>
    readFileSync(audit, "utf8")
      .trim()
      .split("\n")
      .map((text) => JSON.parse(text) as Line);
  await eventually(15, () => {
    const opens = lines().filter(({ event }) => event === "open");
    for (const { name, port } of kFronts) {
      const through = opens.filter(({ local, probe }) => local === `127.0.0.1:${port}` && probe !== true);
      assert.equal(through.length, kClients, name);
      for (const { peer, via } of through) {
        assert.match(peer, /^127\.2\.\d+\.0:\d+$/, name);
        assert.match(via!, /^127\.0\.0\.1:\d+$/, name);
      }
    }
    const probes = opens.filter(({ probe }) => probe === true);
    assert.ok(probes.length >= 4, `${probes.length} health checks`);
    assert.ok(probes.every(({ peer }) => peer.startsWith("127.0.0.1:")));
    t.diagnostic(`${opens.length} connections, ${probes.length} of them health checks`);
  });
  const denied = lines().filter(({ event }) => event === "deny");
  assert.equal(denied.length, 1);
  assert.match(denied[0]!.peer, /^127\.0\.0\.6:/);
  assert.equal(denied[0]!.why, "untrusted_proxy");
  const page = agent.scrape();
  assert.equal(page.value("tcp_server_connections_rejected_total", { listener: "echo", reason: "untrusted_proxy" }), 1);
});
