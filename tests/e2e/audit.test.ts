// The audit log of a hundred thousand connections of mixed fate, and of a SIGTERM among them.

import assert from "node:assert/strict";
import { chmodSync, createReadStream, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test from "node:test";

import { finished, kBuild, Lab } from "./harness.js";

const kConnections = 100_000;
const kLeftOpen = 50;

interface Line {
  event: string;
  id?: number;
  listener?: string;
  cause?: string;
  lost?: number;
  received_bytes?: number;
  sent_bytes?: number;
}

test(`${kConnections} connections of mixed fate and a SIGTERM: every one opens and closes in the log`, async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const log = join(lab.dir, "log/audit.jsonl");
  mkdirSync(join(lab.dir, "log"));
  chmodSync(join(lab.dir, "log"), 0o777); // the agent is nobody
  const config = join(lab.dir, "tcpvitals.yml");
  writeFileSync(
    config,
    `server:
  audit: { file: ${log} }
  drain: { timeout: 1s }
  listeners:
    echo: { address: 127.0.0.1:10078 }
`,
  );
  const agent = await lab.agent(network, { flags: [`--config.file=${config}`] });
  const attack = (mode: string, count: number, seconds: number) =>
    lab.start([
      ...network.prefix,
      join(kBuild, "tcp_attack"),
      ...[mode, "--port", "10078", "--count", String(count), "--seconds", String(seconds)],
    ]);
  await finished(attack("mixed", kConnections, 120));
  const page = agent.scrape();
  assert.ok(page.value("tcpvitals_audit_lines_total") > kConnections);
  assert.equal(page.value("tcpvitals_audit_lines_lost_total"), 0);
  const open = attack("idle", kLeftOpen, 3);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.equal(await agent.child.stop("SIGTERM"), 0);
  await finished(open);

  const opened = new Set<number>();
  const causes = new Map<string, number>();
  let lines = 0;
  let denied = 0;
  for await (const text of createInterface({ input: createReadStream(log) })) {
    const line = JSON.parse(text) as Line; // every line is whole
    ++lines;
    assert.notEqual(line.event, "gap", text);
    if (line.event === "deny") ++denied;
    if (line.listener !== "echo") continue;
    if (line.event === "open") {
      assert.ok(!opened.has(line.id!), `id ${line.id} a second time`);
      opened.add(line.id!);
    } else if (line.event === "close") {
      assert.ok(opened.delete(line.id!), `close without an open: ${text}`);
      causes.set(line.cause!, (causes.get(line.cause!) ?? 0) + 1);
      if (line.cause === "peer_fin") assert.equal(line.received_bytes, 64);
      opened.add(-line.id!); // an id is never used again
    }
  }
  const closes = [...causes.values()].reduce((a, b) => a + b, 0);
  t.diagnostic(`${lines} lines; ${JSON.stringify(Object.fromEntries(causes))}`);
  assert.equal(closes, kConnections + kLeftOpen);
  assert.equal([...opened].filter((id) => id > 0).length, 0, "opens = closes, and none is live");
  assert.equal(denied, 0);
  // A quarter each: a FIN and a half-close end well; a reset, and a close with the answer unread, are resets.
  assert.equal(causes.get("peer_fin"), kConnections / 2);
  assert.equal(causes.get("peer_rst"), kConnections / 2);
  assert.equal((causes.get("drain") ?? 0) + (causes.get("shutdown") ?? 0), kLeftOpen);
});
