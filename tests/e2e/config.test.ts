// The configuration file and the real agent: what is wrong with one is told in one line, and reading it again
// changes nothing; what is right is in force at once, and no counter falls.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import type { Exposition, Labels } from "./exposition.js";
import { type Agent, eventually, kBuild, kSource, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kAgent = join(kBuild, "tcpvitals");
const kBroken = join(kSource, "tests/fixtures/config/broken");
const kBrokenFiles = readdirSync(kBroken).sort();

// What is said of a broken file, after its name: its first line, a comment, has it.
function expected(file: string): string {
  return /^# (.*)$/m.exec(readFileSync(join(kBroken, file), "utf8"))![1]!;
}

function check(path: string, ...flags: string[]) {
  const { status, stdout, stderr } = spawnSync(kAgent, ["--config.check", `--config.file=${path}`, ...flags], {
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

test("there are at least 30 ways to break a configuration here", () => {
  assert.ok(kBrokenFiles.length >= 30, `${kBrokenFiles.length}`);
});

test("--config.check says what is wrong with each broken file in one line, and ends with status 2", () => {
  for (const file of kBrokenFiles) {
    const path = join(kBroken, file);
    assert.deepEqual(check(path), { status: 2, stdout: "", stderr: `tcpvitals: ${path}:${expected(file)}\n` });
  }
});

test("--config.check says that a good file is good, as the flags and this host have it", (t) => {
  const example = readFileSync(join(kSource, "docs/tcpvitals.yml"), "utf8");
  const lab = new Lab(t);
  const path = join(lab.dir, "tcpvitals.yml");
  writeFileSync(path, example.replace("/var/log/tcpvitals/", `${lab.dir}/none/`));
  const unwritable = check(path);
  assert.equal(unwritable.status, 2);
  assert.match(unwritable.stderr, /: server\.audit\.file: "[^"]+": [^"]+: No such file or directory: make the directory, /);
  writeFileSync(path, example.replace("/var/log/tcpvitals/", `${lab.dir}/`));
  assert.deepEqual(check(path), {
    status: 0,
    stdout: `${path}: ok: 6 peer names, 3 port names, grouped by direction, port, peer, 2 listeners\n`,
    stderr: "",
  });
  const refused = check(path, "--connections.max-peers=5");
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /:5:5: connections\.peers: a map: 6 names, .* --connections\.max-peers has it\n$/);
});

test("a broken file, or none where one was named, keeps the agent from starting", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  for (const path of [join(kBroken, "tag.yml"), lab.dir, join(lab.dir, "none.yml")]) {
    const child = lab.start([...network.prefix, kAgent, `--config.file=${path}`]);
    assert.equal(await child.end(), 2);
    assert.match(child.stderr, /^tcpvitals: [^\n]+\n$/);
    assert.ok(child.stderr.includes(path), child.stderr);
  }
});

const kGood = `connections:
  peers: {self: 127.0.0.1}
  ports: {echo: 10078}
`;
const kEcho = { direction: "inbound", port: "echo", peer: "self" };

interface Reloads {
  successes: number;
  failures: number;
  lastSuccessful: number;
  since: number;
}

function reloads(page: Exposition): Reloads {
  return {
    successes: page.value("tcpvitals_config_reloads_total", { outcome: "success" }),
    failures: page.value("tcpvitals_config_reloads_total", { outcome: "failure" }),
    lastSuccessful: page.value("tcpvitals_config_last_reload_successful"),
    since: page.value("tcpvitals_config_last_reload_success_timestamp_seconds"),
  };
}

// What the agent has counted of the echo server's connections, all of which have ended.
function counted(page: Exposition, labels: Labels): Record<string, number> {
  const names = ["tcp_connections_opened_total", "tcp_connections_closed_total", "tcp_data_segments_sent_total"];
  return Object.fromEntries(names.map((name) => [name, page.value(name, labels)]));
}

function post(network: Network): { status: number; body: string } {
  const said = network.run([
    "curl", "-sS", "-X", "POST", "-w", "%{http_code}", "http://127.0.0.1:10077/-/reload",
  ]);
  return { status: Number(said.slice(-3)), body: said.slice(0, -3) };
}

class Configured {
  private constructor(
    readonly lab: Lab,
    readonly network: Network,
    readonly path: string,
    readonly agent: Agent,
  ) {}

  static async start(lab: Lab, text: string, ...flags: string[]): Promise<Configured> {
    const network = await lab.network();
    const path = join(lab.dir, "tcpvitals.yml");
    writeFileSync(path, text);
    const agent = await lab.agent(network, { flags: [`--config.file=${path}`, ...flags] });
    return new Configured(lab, network, path, agent);
  }

  async roundTrips(count: number, options = {}): Promise<void> {
    await this.lab.runLoad(this.network, "pingpong", { port: 10078, count, up: 64, ...options });
  }

  // As soon as it has ended, one way or the other.
  async hangUp(): Promise<Reloads> {
    const before = reloads(this.agent.scrape());
    process.kill(this.agent.child.pid, "SIGHUP");
    return eventually(10, () => {
      const after = reloads(this.agent.scrape());
      assert.notEqual(after.successes + after.failures, before.successes + before.failures);
      return after;
    });
  }
}

test("reading any broken file again, by SIGHUP or POST, changes nothing", async (t) => {
  const lab = new Lab(t);
  const c = await Configured.start(lab, kGood, "--web.enable-lifecycle");
  await c.roundTrips(100);
  const start = await eventually(5, () => {
    const page = c.agent.scrape();
    assert.equal(page.value("tcp_connections_closed_total", kEcho), 1);
    return page;
  });
  assert.deepEqual(counted(start, kEcho), {
    tcp_connections_opened_total: 1,
    tcp_connections_closed_total: 1,
    tcp_data_segments_sent_total: 100,
  });
  const { since } = reloads(start);
  assert.deepEqual(reloads(start), { successes: 0, failures: 0, lastSuccessful: 1, since });

  let failures = 0;
  const unchanged = (page: Exposition, file: string): void => {
    assert.deepEqual(counted(page, kEcho), counted(start, kEcho), file);
    assert.deepEqual(reloads(page), { successes: 0, failures, lastSuccessful: 0, since }, file);
  };
  for (const file of kBrokenFiles) {
    copyFileSync(join(kBroken, file), c.path);
    const error = `${c.path}:${expected(file)}`;
    assert.deepEqual(post(c.network), { status: 500, body: `${error}\n` });
    failures += 1;
    unchanged(c.agent.scrape(), file);
    await c.hangUp();
    failures += 1;
    unchanged(c.agent.scrape(), file);
    await eventually(5, () => {
      assert.equal(c.agent.child.stderr.split(JSON.stringify(error)).length, 3, `${file}: one log line each`);
    });
  }
  rmSync(c.path);
  assert.deepEqual(post(c.network), { status: 500, body: `${c.path}: No such file or directory\n` });
  writeFileSync(c.path, kGood);
  chmodSync(c.path, 0);
  assert.deepEqual(post(c.network), { status: 500, body: `${c.path}: Permission denied\n` });
  failures += 2;
  unchanged(c.agent.scrape(), "none");
  assert.ok(c.agent.child.running);

  // A good one works, and counters go on.
  chmodSync(c.path, 0o644);
  assert.deepEqual(post(c.network), { status: 200, body: "reloaded\n" });
  const after = reloads(c.agent.scrape());
  assert.deepEqual({ ...after, since }, { successes: 1, failures, lastSuccessful: 1, since });
  assert.ok(after.since > since);
  await c.roundTrips(10);
  await eventually(5, () => {
    assert.deepEqual(counted(c.agent.scrape(), kEcho), {
      tcp_connections_opened_total: 2,
      tcp_connections_closed_total: 2,
      tcp_data_segments_sent_total: 110,
    });
  });
});

test("a good file is in force after SIGHUP: new names begin at 0, old ones go on, live connections balance", async (t) => {
  const lab = new Lab(t);
  const c = await Configured.start(lab, kGood);
  await c.roundTrips(100);
  const live = lab.load(c.network, "pingpong", { port: 10078, connections: 3, count: 1_000_000, up: 64 });
  await eventually(5, () => {
    assert.equal(c.agent.scrape().sum("tcp_connections", { ...kEcho, state: "established" }), 3);
  });

  // A key that has nothing to do with these groups: they are as they were.
  writeFileSync(c.path, `${kGood}  group_idle: 2h\n`);
  assert.equal((await c.hangUp()).lastSuccessful, 1);
  const same = c.agent.scrape();
  assert.equal(same.value("tcp_connections_opened_total", kEcho), 4);
  assert.equal(same.value("tcp_connections_at_start", kEcho), 0);

  writeFileSync(c.path, kGood.replace("echo", "again"));
  assert.deepEqual((await c.hangUp()).successes, 2);
  const moved = c.agent.scrape();
  const again = { ...kEcho, port: "again" };
  assert.equal(moved.value("tcp_connections_opened_total", again), 0);
  assert.equal(moved.value("tcp_connections_at_start", again), 3);
  assert.equal(moved.sum("tcp_connections", { ...again, state: "established" }), 3);
  assert.equal(moved.sum("tcp_connections", { port: "echo", state: "established" }), 0);
  for (const sample of moved.samples("tcp_connections_opened_total", kEcho)) assert.equal(sample.value, 4);
  await live.stop("SIGKILL");
  await eventually(5, () => assert.equal(c.agent.scrape().value("tcp_connections_closed_total", again), 3));
});

test("a flag stands above the file, and a reload leaves it there", async (t) => {
  const lab = new Lab(t);
  const limits = (groups: number, tracked: number): string =>
    `connections: {limits: {groups: ${groups}, connections: ${tracked}}}\n`;
  const c = await Configured.start(lab, limits(50, 1000), "--connections.max-groups=7");
  const inForce = (): number[] => {
    const page = c.agent.scrape();
    return [page.value("tcpvitals_groups_limit"), page.value("tcpvitals_tracked_connections_limit")];
  };
  assert.deepEqual(inForce(), [7, 1000]);
  writeFileSync(c.path, limits(60, 2000));
  assert.equal((await c.hangUp()).successes, 1);
  assert.deepEqual(inForce(), [7, 2000]);
});

test("POST /-/reload is refused unless it is enabled; SIGHUP without a file says that there is none", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const agent = await lab.agent(network);
  assert.equal(post(network).status, 403);
  assert.match(post(network).body, /--web\.enable-lifecycle/);
  process.kill(agent.child.pid, "SIGHUP");
  await eventually(5, () => assert.match(agent.child.stderr, /not reloaded.*--config\.file/));
  assert.equal(agent.scrape().value("tcpvitals_collector_success", { collector: "connections" }), 1);
  assert.equal(await agent.child.stop(), 0);
});
