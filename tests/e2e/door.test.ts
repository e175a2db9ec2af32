// The door: /metrics, the page and the API stand behind listeners of the embedded server. What that gives them, that
// they are told who their clients are, and that there is no way around it.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { type Agent, eventually, finished, kAttackers, kBuild, kMetrics, Lab } from "./harness.js";
import type { Network } from "./network.js";

interface Site {
  lab: Lab;
  network: Network;
  agent: Agent;
  audit: string;
}

// An agent with an audit log that says each request, and `web` of its configuration.
async function site(t: TestContext, flags: string[], web = ""): Promise<Site> {
  const lab = new Lab(t);
  const network = await lab.network();
  const audit = lab.auditFile();
  const path = join(lab.dir, "tcpvitals.yml");
  writeFileSync(path, `server:\n  audit: { file: ${audit} }\n${web}`);
  const agent = await lab.agent(network, { flags: [`--config.file=${path}`, "--log.level=debug", ...flags] });
  return { lab, network, agent, audit };
}

const status = (network: Network, url: string, ...more: string[]): number =>
  Number(network.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", ...more, url]));

// Bytes of a client's own, and what is answered to them before the end or a reset.
const say = (network: Network, from: string, bytes: string): string =>
  network.run(["sh", "-c", `curl -s --max-time 5 --interface ${from} telnet://127.0.0.1:10079 || true`], bytes);

test("several addresses, IPv6 among them: each is a listener, and /metrics is on all", async (t) => {
  const addresses = ["127.0.0.1:10077", "[::1]:10079", "[::]:10080"];
  const { network, agent } = await site(t, addresses.map((address) => `--web.listen-address=${address}`));
  for (const authority of ["127.0.0.1:10077", "[::1]:10079", "[::1]:10080", "127.0.0.1:10080"]) {
    for (const path of ["metrics", "", "api/v1/groups", "-/ready"]) {
      assert.equal(status(network, `http://${authority}/${path}`), 200, `${authority}/${path}`);
    }
  }
  const page = agent.scrape();
  for (const listener of ["web", "web-2", "web-3"]) {
    assert.ok(page.value("tcp_server_connections_accepted_total", { listener }) >= 4, listener);
    assert.equal(page.value("tcp_server_backend_failures_total", { listener }), 0, listener);
  }
});

test("behind the door the client is known: by the log, the audit log, and the API, which is for loopback", async (t) => {
  const { lab, network, agent, audit } = await site(t, ["--web.listen-address=:10077"]);
  const elsewhere = await lab.network(network);
  network.connect(elsewhere, "1gbit");
  const url = "http://10.77.0.1:10077";
  await eventually(10, () => assert.equal(status(elsewhere, `${url}/metrics`, "--local-port", "45000-45009"), 200));
  assert.equal(status(elsewhere, `${url}/api/v1/groups`, "--local-port", "45010-45019"), 403);
  assert.equal(status(network, "http://127.0.0.1:10077/api/v1/groups", "--interface", "127.0.0.9"), 200);
  await eventually(5, () => {
    const requests = agent.child.stderr.split("\n").filter((line) => line.includes("msg=request"));
    const one = (client: RegExp, path: string, answer: number): void =>
      assert.ok(
        requests.some((line) => client.test(line) && line.includes(` path=${path} `) && line.endsWith(`status=${answer}`)),
        agent.child.stderr,
      );
    one(/ client=10\.77\.0\.2:4500\d /, "/metrics", 200);
    one(/ client=10\.77\.0\.2:4501\d /, "/api/v1/groups", 403);
    one(/ client=127\.0\.0\.9:\d+ /, "/api/v1/groups", 200);
    assert.match(readFileSync(audit, "utf8"), /"event":"open",.*"listener":"web","peer":"10\.77\.0\.2:4500\d"/);
  });
});

test("nobody else can connect to the HTTP server itself, whatever the agent's privileges", async (t) => {
  for (const unprivileged of [false, true]) {
    const lab = new Lab(t);
    const network = await lab.network();
    const agent = await lab.agent(network, { unprivileged });
    for (const from of ["127.0.0.1", "127.64.0.1"]) {
      const attempt = `curl -sS --max-time 1 --interface ${from} http://127.0.0.1:${agent.innerPort()}/metrics 2>&1 || true`;
      assert.match(network.run(["sh", "-c", attempt]), /timed out/i, from);
    }
    assert.equal(status(network, kMetrics), 200);
  }
});

test("behind a proxy that says so, the client is the one that its PROXY header names", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const path = join(lab.dir, "tcpvitals.yml");
  writeFileSync(path, "server: { web: { proxy_protocol: { trusted: 127.0.0.1 } } }\n");
  const flags = [`--config.file=${path}`, "--log.level=debug", "--web.listen-address=127.0.0.1:10079"];
  const program = lab.start([...network.prefix, join(kBuild, "tcpvitals"), ...flags]);
  await eventually(5, () => assert.ok(network.run(["ss", "-tlnH"]).includes(":10079 "), program.stderr));
  const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:10079\r\n\r\n`;
  const proxied = (client: string, path = "/api/v1/groups"): string =>
    `PROXY TCP4 ${client} 192.0.2.1 40000 443\r\n${request(path)}`;
  assert.match(say(network, "127.0.0.1", proxied("198.51.100.7")), /^HTTP\/1\.1 403 /);
  assert.match(say(network, "127.0.0.1", proxied("127.0.0.1")), /^HTTP\/1\.1 200 /);
  await eventually(5, () => assert.match(program.stderr, / client=198\.51\.100\.7:40000 .* status=403/));
  assert.equal(say(network, "127.0.0.1", request("/metrics")), "", "no header");
  assert.equal(say(network, "127.0.0.6", proxied("127.0.0.1")), "", "not from a proxy");
  const page = say(network, "127.0.0.1", proxied("127.0.0.1", "/metrics"));
  assert.match(page, /tcp_server_connections_rejected_total\{listener="web",reason="untrusted_proxy"\} 1\n/);
  assert.match(page, /tcp_server_connections_closed_total\{listener="web",cause="proxy_error"\} 1\n/);
});

test("400 requests that drip in from two addresses leave /metrics to all others", async (t) => {
  const { lab, network, agent } = await site(t, []);
  const drips = ["request", "--port", "10077", "--count", "400", "--addresses", "2", "--seconds", "10"];
  const attackers = lab.start([...network.prefix, join(kBuild, "tcp_attack"), ...drips]); // from 127.1.0.0 on
  await sleep(2000);
  let slowest = 0;
  let asked = 0;
  while (attackers.running) {
    for (const from of ["127.0.0.1", "127.0.0.2"]) {
      const began = Date.now();
      assert.equal(status(network, kMetrics, "--interface", from), 200);
      slowest = Math.max(slowest, Date.now() - began);
      ++asked;
    }
    await sleep(200);
  }
  const did = await finished(attackers);
  const page = agent.scrape();
  const refused = page.value("tcp_server_connections_rejected_total", { listener: "web", reason: "peer_connections" });
  t.diagnostic(`${did["made"]} connections, ${refused} refused; ${asked} scrapes, ${slowest} ms at most`);
  assert.ok(refused > 200, `${refused}`);
  assert.ok(asked > 20, `${asked}`);
  assert.ok(slowest < 1000, `${slowest} ms`);
});

test("where no port is left for the way behind the door it says so at once, and recovers", async (t) => {
  const { lab, network, agent } = await site(t, []);
  const echo = ["honest", "--port", "10078", "--count", "100", "--seconds", "4"];
  const honest = lab.start([...network.prefix, join(kBuild, "tcp_attack"), ...echo]);
  await eventually(20, () => assert.match(honest.stdout, /ready/));
  network.set("net.ipv4.ip_local_port_range", "64000 64199");
  const all = ["ports", "--port", "64000", "--count", "200", "--from", "0.0.0.0", "--seconds", "100"];
  const taking = lab.start([...network.prefix, ...kAttackers, ...all]);
  await eventually(20, () => assert.match(taking.stdout, /ready/));
  const own = ["--local-port", "20000-29999", "--max-time", "5", "--write-out", "%{http_code}"];
  for (let i = 0; i < 10; ++i) {
    assert.equal(network.run(["curl", "-sS", ...own, kMetrics]), "the HTTP server did not answer\n502");
  }
  await taking.stop();
  await eventually(10, () => assert.equal(status(network, kMetrics), 200));
  assert.equal(agent.scrape().value("tcp_server_backend_failures_total", { listener: "web" }), 10);
  assert.match(agent.child.stderr, /msg="the HTTP server did not answer" reason="bind: Address already in use"/);
  const { lost, answers } = await finished(honest);
  assert.equal(lost, 0);
  assert.ok(answers! > 100);
});
