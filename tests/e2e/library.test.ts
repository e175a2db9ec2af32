// The library as a stranger gets it: installed, found by CMake, and the metrics of the programs in
// examples/ as prometheus-cpp's own server tells them.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import test, { before } from "node:test";

import { type Exposition, parseExposition } from "./exposition.js";
import { eventually, finished, kBuild, kSource, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kPrefix = join(kBuild, "library");
const kExamples = join(kBuild, "examples");
const kPort = 10078;
const kExposer = "127.0.0.1:10079";

before(() => {
  const cmake = (...args: string[]) => execFileSync("cmake", args, { stdio: ["ignore", "ignore", "inherit"] });
  rmSync(kPrefix, { recursive: true, force: true });
  cmake("--install", kBuild, "--component", "library", "--prefix", kPrefix);
  cmake("-S", join(kSource, "examples"), "-B", kExamples, "-G", "Ninja", `-DCMAKE_PREFIX_PATH=${kPrefix}`);
  cmake("--build", kExamples);
});

// What the Exposer says of itself is not ours, and not all of it is in order.
function scrape(network: Network): Exposition {
  const page = network.run(["curl", "-sS", "--fail", "--max-time", "10", `http://${kExposer}/metrics`]);
  return parseExposition(page.replace(/^(# [A-Z]+ )?exposer_.*\n/gm, ""));
}

test("an echo service of forty lines has the server's metrics behind a stock Exposer", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const service = lab.start([...network.prefix, join(kExamples, "echo_service"), `127.0.0.1:${kPort}`, kExposer]);
  await eventually(5, () => scrape(network));
  const load = await lab.runLoad(network, "pingpong", { port: kPort, connections: 10, count: 100, up: 64 });
  assert.equal(load["round_trips"], 1000);

  const page = await eventually(5, () => {
    const now = scrape(network);
    assert.equal(now.sum("tcp_server_connections_closed_total", { cause: "peer_fin" }), 10);
    return now;
  });
  assert.equal(page.value("tcpvitals_collector_success", { collector: "server" }), 1);
  assert.equal(page.value("tcp_server_connections_accepted_total", { listener: "echo" }), 10);
  assert.equal(page.value("tcp_server_received_bytes_total"), 64_000);
  assert.equal(page.value("tcp_server_sent_bytes_total") - page.value("tcp_server_retransmitted_bytes_total"), 64_000);
  assert.equal(page.value("tcp_server_lifetime_seconds_count"), 10);
  assert.equal(page.value("tcp_server_min_rtt_seconds_count"), 10);
  assert.equal(await service.stop(), 0);
});

test("sockets of someone else's server have the same vital signs, live and when they are gone", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  lab.start([...network.prefix, join(kExamples, "watched_sockets"), String(kPort), kExposer]);
  await eventually(5, () => scrape(network));
  const load = lab.load(network, "pingpong", { port: kPort, connections: 3, count: 50_000, up: 64 });

  const live = await eventually(5, () => {
    const now = scrape(network);
    assert.equal(now.value("chat_connections"), 3);
    assert.ok(now.samples("chat_connection_rtt_seconds").every(({ value }) => value > 0));
    return now;
  });
  assert.equal(live.samples("chat_connection_rtt_seconds").length, 3);
  assert.equal(live.samples("chat_connection_retransmit_ratio").length, 3);
  assert.ok(live.value("chat_received_bytes_total") > 0);

  const { round_trips } = await finished(load);
  const end = await eventually(5, () => {
    const now = scrape(network);
    assert.equal(now.value("chat_connections"), 0);
    return now;
  });
  assert.equal(end.value("chat_connections_total"), 3);
  assert.equal(end.value("chat_received_bytes_total"), round_trips! * 64);
  assert.ok(end.value("chat_data_segments_sent_total") >= round_trips!);
  assert.ok(end.value("chat_rtt_seconds_count") >= 3);
  assert.equal(end.samples("chat_connection_rtt_seconds").length, 0);
});
