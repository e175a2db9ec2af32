// What the agent may not take for granted: open standard descriptors, a parent, a path that still leads to it.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync, readlinkSync, renameSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { eventually, kBuild, kMetrics, Lab, running } from "./harness.js";

const kProgram = join(kBuild, "tcpvitals");
const answers = (network: Awaited<ReturnType<Lab["network"]>>): Promise<string> =>
  eventually(10, () => network.run(["curl", "-sS", "--fail", "--max-time", "5", kMetrics]));

test("without standard descriptors it has some, and no socket becomes one of them", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const agent = await lab.agent(network, { within: ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh"] });
  for (const fd of [0, 1, 2]) assert.equal(readlinkSync(`/proc/${agent.child.pid}/fd/${fd}`), "/dev/null");
  assert.equal(await agent.child.stop("SIGTERM"), 0);
});

test("as process 1 it refuses to restart, with the reason, and leaves no zombies", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const child = lab.start([...network.prefix, "unshare", "--pid", "--fork", "--kill-child", kProgram]);
  await answers(network);
  const children = (pid: number): number[] =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
  const [pid] = children(child.pid);
  process.kill(pid!, "SIGUSR2");
  await eventually(5, () => assert.match(child.stderr, /msg="not restarted" error="this is process 1: .*container/));
  await answers(network);
  network.run(["nsenter", `--target=${pid}`, "--pid", "sh", "-c", "sleep 0.3 & true"]); // which loses its parent
  await eventually(5, () => assert.deepEqual(children(pid!), []));
  process.kill(pid!, "SIGTERM");
  assert.equal(await child.end(), 0);
});

test("a restart runs the release that the path leads to now", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const at = (path: string): string => join(lab.dir, path);
  for (const release of ["v1", "v2"]) {
    mkdirSync(at(release));
    copyFileSync(kProgram, at(`${release}/tcpvitals`));
  }
  symlinkSync("v1", at("current"));
  const child = lab.start([...network.prefix, at("current/tcpvitals")]);
  await answers(network);
  symlinkSync("v2", at("next"));
  renameSync(at("next"), at("current"));
  child.signal("SIGUSR2");
  const pid = await eventually(20, () => Number(/msg=restarted pid=(\d+)/.exec(child.stderr)![1]));
  t.after(() => running(pid) && process.kill(pid, "SIGKILL"));
  // The lab waits for a child until its stderr is closed, which the successor has too.
  await eventually(20, () => assert.equal(running(child.pid), false, "the old process has not ended"));
  assert.equal(readlinkSync(`/proc/${pid}/exe`), at("v2/tcpvitals"));
});
