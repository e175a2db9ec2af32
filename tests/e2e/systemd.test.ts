// The agent under a service manager: sockets that systemd's own systemd-socket-activate passes, and what the
// manager is told.

import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { type Agent, type Child, eventually, kBuild, kSource, Lab, running } from "./harness.js";
import type { Network } from "./network.js";

const kActivate = join(kSource, "build/tools/systemd/usr/bin/systemd-socket-activate");

// Runs the command that follows, with these sockets, when somebody connects to one of them.
const activate = (names: string, ...addresses: string[]): string[] => [
  kActivate, ...addresses.flatMap((address) => ["--listen", address]), `--fdname=${names}`,
];

// Of the sockets that listen at that address, by which the kernel tells them apart.
const listening = (network: Network, address: string): string[] =>
  [...network.run(["ss", "-ltnHe", `src ${address}`]).matchAll(/ ino:(\d+) /g)].map(([, inode]) => inode!);

const echoes = (lab: Lab, network: Network, address: string, port: number) =>
  lab.runLoad(network, "pingpong", { address, port, connections: 20, count: 5, up: 64 });

// The process that took over, which ends with the test.
async function restart(t: TestContext, agent: Agent): Promise<number> {
  agent.child.signal("SIGUSR2");
  const pid = await eventually(20, () => Number(/msg=restarted pid=(\d+)/.exec(agent.child.stderr)![1]));
  t.after(() => running(pid) && process.kill(pid, "SIGKILL"));
  return pid;
}

test("listeners are served on the sockets that were passed, and on no others, after a restart too", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const config = join(lab.dir, "tcpvitals.yml");
  writeFileSync(
    config,
    `server:
  workers: 3
  listeners:
    named: { address: 127.0.0.1:10078 }
    at-its-address: { address: "[::1]:10079" }
    own: { address: 127.0.0.1:10080 }
`,
  );
  // Opened by root, where the test is: the agent is nobody, and may not join them on their ports.
  const addresses = ["127.0.0.1:10078", "[::1]:10079", "127.0.0.1:10077"];
  const within = activate("named:whatever:web", ...addresses);
  const agent = await lab.agent(network, { flags: [`--config.file=${config}`], within });
  const passed = addresses.map((address) => listening(network, address));
  for (const sockets of passed) assert.equal(sockets.length, 1);
  assert.equal(listening(network, "127.0.0.1:10080").length, 3);

  const assertServed = async (): Promise<void> => {
    await echoes(lab, network, "127.0.0.1", 10078);
    await echoes(lab, network, "::1", 10079);
    await echoes(lab, network, "127.0.0.1", 10080);
    const page = agent.scrape();
    for (const listener of ["named", "at-its-address", "own"]) {
      assert.equal(page.sum("tcp_server_connections_accepted_total", { listener }), 20);
    }
  };
  await assertServed();
  await restart(t, agent);
  await eventually(10, () => assert.equal(running(agent.child.pid), false));
  assert.deepEqual(addresses.map((address) => listening(network, address)), passed);
  await assertServed();
});

test("a socket that is for no listener is refused", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const program = [...activate("echo:stray", "127.0.0.1:10078", "127.0.0.1:10099"), join(kBuild, "tcpvitals")];
  const child = lab.start([...network.prefix, ...program]);
  await eventually(5, () => assert.equal(listening(network, "127.0.0.1:10099").length, 1));
  lab.start([...network.prefix, "curl", "-sS", "http://127.0.0.1:10099/"]);
  assert.equal(await child.end(), 2);
  assert.match(
    child.stderr,
    /tcpvitals: passed socket "stray" at 127\.0\.0\.1:10099: expected the name \(FileDescriptorName=\) or the address of a listener$/m,
  );
});

// What a manager hears that expects to hear from the agent every second.
async function manager(lab: Lab): Promise<{ heard: Child; environment: string[] }> {
  const address = join(lab.dir, "notify");
  const heard = lab.start(["socat", "-u", `UNIX-RECV:${address}`, "-"]);
  await eventually(5, () => chmodSync(address, 0o777)); // the agent is nobody
  return { heard, environment: ["env", `NOTIFY_SOCKET=${address}`, "WATCHDOG_USEC=4000000"] };
}

test("the service manager hears of start, life, reload, restart and end, in this order", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const { heard, environment } = await manager(lab);
  const agent = await lab.agent(network, { within: environment });
  const hears = (pattern: RegExp) => eventually(10, () => assert.match(heard.stdout, pattern));
  await hears(/^READY=1(WATCHDOG=1){2}/);
  agent.child.signal("SIGHUP");
  await hears(/WATCHDOG=1RELOADING=1\nMONOTONIC_USEC=\d+READY=1/);
  const before = heard.stdout.length;
  const pid = await restart(t, agent);
  await eventually(10, () => {
    const since = heard.stdout.slice(before);
    assert.equal(since.match(/READY=1/g)?.length, 1, since);
    assert.match(since, new RegExp(`MAINPID=${pid}`));
    assert.match(since, /(WATCHDOG=1){2}$/); // of the new one: the old one has ended
  });
  process.kill(pid, "SIGTERM");
  await hears(/STOPPING=1$/);
  assert.equal(heard.stdout.match(/STOPPING=1/g)!.length, 1, "the one that was replaced did not stop the service");
});

test("the watchdog is not fed while a worker does not answer", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const { heard, environment } = await manager(lab);
  const agent = await lab.agent(network, { within: environment });
  const fed = (): number => heard.stdout.match(/WATCHDOG=1/g)?.length ?? 0;
  await eventually(10, () => assert.ok(fed() > 0));

  const hung = await lab.delay(agent, "server-0", "/^epoll_p?wait$", 60);
  await eventually(20, () => assert.match(agent.child.stderr, /msg="not alive" error="worker 0 did not answer in time"/));
  const before = fed();
  await sleep(3000);
  assert.equal(fed(), before);
  await hung.stop("SIGINT");
  await eventually(10, () => assert.ok(fed() > before + 1));
});
