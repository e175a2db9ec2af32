// Restart by SIGUSR2: a new process takes the listening sockets over, the old one drains. Nobody who connects
// meanwhile is refused, reset or left without an answer, and the audit log has every connection once.

import assert from "node:assert/strict";
import { copyFileSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { eventually, finished, kBuild, kMetrics, Lab, running } from "./harness.js";

const count = (text: string, part: string): number => text.split(part).length - 1;

// The process that took over from `pid` at the n-th restart; `said`: the log.
async function restart(pid: number, n: number, said: () => string): Promise<number> {
  process.kill(pid, "SIGUSR2");
  return eventually(20, () => {
    const pids = [...said().matchAll(/msg=restarted pid=(\d+)/g)];
    assert.equal(pids.length, n, said());
    assert.equal(running(pid), false, "the old process has not ended");
    return Number(pids.at(-1)![1]);
  });
}

// How many connections; each has one open and one close, whichever process wrote them.
function assertAudited(log: string): number {
  const open = new Set<number>();
  const closed = new Set<number>();
  for (const text of readFileSync(log, "utf8").trim().split("\n")) {
    const { event, id } = JSON.parse(text) as { event: string; id: number };
    if (event === "open") {
      assert.ok(!open.has(id) && !closed.has(id), `a second time: ${text}`);
      open.add(id);
    } else {
      assert.equal(event, "close");
      assert.ok(open.delete(id), `never opened: ${text}`);
      closed.add(id);
    }
  }
  assert.equal(open.size, 0, "never closed");
  return closed.size;
}

test("20 restarts under load: nobody is refused, reset or left without an answer", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const audit = lab.auditFile();
  const config = join(lab.dir, "tcpvitals.yml");
  writeFileSync(config, `server: { audit: { file: ${audit} } }\n`);
  const agent = await lab.agent(network, { flags: [`--config.file=${config}`] });
  const calls = lab.load(network, "calls", { port: 10078, up: 64, connections: 4, sources: 50, rate: 1000 });
  await calls.ready();
  // Scrapes too, one after the other: a line for each that fails, and one for each that does not.
  const scrapes = lab.start([
    ...network.prefix,
    ...["sh", "-c", `while curl -sS -o /dev/null --fail --max-time 10 ${kMetrics} && echo ok; do sleep 0.02; done`],
  ]);

  const log = (): string => agent.child.stderr;
  let pid = agent.child.pid;
  t.after(() => running(pid) && process.kill(pid, "SIGKILL"));
  for (let n = 1; n <= 20; ++n) {
    pid = await restart(pid, n, log);
    await sleep(100);
  }
  assert.equal(scrapes.running, true, scrapes.stderr);
  await scrapes.stop("SIGKILL");
  assert.ok(count(scrapes.stdout, "ok") > 20, scrapes.stdout);
  calls.closeStdin();
  const { answered, ...failed } = await finished(calls);
  assert.deepEqual(failed, { refused: 0, reset: 0, cut: 0, other: 0 });
  assert.ok(answered! > 5000, `${answered}`);
  t.diagnostic(`${answered} calls and ${count(scrapes.stdout, "ok")} scrapes over 20 restarts`);

  process.kill(pid, "SIGTERM");
  await eventually(10, () => assert.equal(running(pid), false));
  const audited = assertAudited(audit);
  assert.ok(audited >= answered!);
  t.diagnostic(`${audited} connections in the audit log`);
});

test("a successor that cannot start leaves the old process at work; the program may be replaced", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const config = join(lab.dir, "tcpvitals.yml");
  const program = join(lab.dir, "tcpvitals");
  writeFileSync(config, "");
  const agent = await lab.agent(network, { flags: [`--config.file=${config}`] });
  const { pid } = agent.child;
  const fails = async (reason: RegExp): Promise<void> => {
    const said = agent.child.stderr.length;
    agent.child.signal("SIGUSR2");
    await eventually(10, () => assert.match(agent.child.stderr.slice(said), reason));
    await lab.runLoad(network, "pingpong", { port: 10078, count: 10, up: 64 });
    assert.equal(running(pid), true);
  };

  writeFileSync(config, "server: { workers: none }\n");
  await fails(/workers.*\n.*msg="not restarted" error="\/.*\/tcpvitals: ended with status 2"/);
  writeFileSync(config, "");
  rmSync(program);
  await fails(/msg="not restarted" error="\/.*\/tcpvitals: could not be executed"/);
  copyFileSync(join(kBuild, "tcpvitals"), program);
  const successor = await restart(pid, 1, () => agent.child.stderr);
  t.after(() => running(successor) && process.kill(successor, "SIGKILL"));
  await lab.runLoad(network, "pingpong", { port: 10078, count: 10, up: 64 });
  assert.equal(readlinkSync(`/proc/${successor}/exe`), program); // and not the file that was there before
});
