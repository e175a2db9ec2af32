// What a person meets first: it starts at once, answers on both ports, says in one line what is wrong, and
// stops when told.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import test from "node:test";

import { Child, eventually, kBuild, kMetrics, kPrometheus, Lab } from "./harness.js";

const kAgent = join(kBuild, "tcpvitals");

test("with no flags it answers on both ports within a second, and stops on SIGTERM with status 0", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const child = lab.start([...network.prefix, kAgent]);
  const page = await eventually(1, () => network.run(["curl", "-sS", "--fail", kMetrics]));
  await eventually(1, () => lab.runLoad(network, "pingpong", { port: 10078, count: 100, up: 64 }));

  const lint = spawnSync(join(kPrometheus, "promtool"), ["check", "metrics"], { input: page, encoding: "utf8" });
  assert.deepEqual([lint.status, lint.stdout, lint.stderr], [0, "", ""]);

  for (const path of ["/", "/-/healthy", "/-/ready"]) {
    network.run(["curl", "-sS", "--fail", `http://127.0.0.1:10077${path}`]);
  }
  assert.equal(await child.stop(), 0);
});

test("a connection that is open when SIGTERM comes does not keep it", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const agent = await lab.agent(network);
  const load = lab.load(network, "pingpong", { port: 10078, connections: 10, count: 1_000_000, up: 64 });
  await eventually(5, () => {
    const live = { direction: "inbound", port: "10078", state: "established" };
    assert.equal(agent.scrape().sum("tcp_connections", live), 10);
  });
  const start = Date.now();
  assert.equal(await agent.child.stop(), 0);
  assert.ok(Date.now() - start < 3000);
  await load.end();
});

// One line on stderr that names what is wrong, and status 2.
async function refuses(child: Child, what: RegExp): Promise<void> {
  assert.equal(await child.end(), 2, child.stderr);
  assert.match(child.stderr, what);
  assert.match(child.stderr, /^[^\n]+\n$/, "more or less than one line");
}

const kMistakes: ReadonlyArray<readonly [argv: string[], line: RegExp]> = [
  [["--no.such.flag"], /no\.such\.flag/],
  [["--web.listen-address=nowhere"], /nowhere/],
  [["--web.listen-address=192.0.2.1:10077"], /192\.0\.2\.1/],
  [["--path.procfs=/no/such/directory"], /\/no\/such\/directory/],
  [["--log.level=loud"], /loud/],
  [["--collector.netstat.fields=("], /netstat\.fields/],
  [["stray"], /stray/],
];
for (const [argv, line] of kMistakes) {
  test(`${argv.join(" ")} is one line and status 2`, async (t) => {
    const lab = new Lab(t);
    const network = await lab.network();
    await refuses(lab.start([...network.prefix, kAgent, ...argv]), line);
  });
}

for (const port of [10077, 10078]) {
  test(`port ${port} in use is one line and status 2`, async (t) => {
    const lab = new Lab(t);
    const network = await lab.network();
    const holder = lab.load(network, "serve", { port });
    await holder.ready();
    await refuses(lab.start([...network.prefix, kAgent, "--log.level=error"]), new RegExp(String(port)));
  });
}
