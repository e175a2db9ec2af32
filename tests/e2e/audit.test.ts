// The audit log: of a hundred thousand connections of mixed fate and a SIGTERM among them; on a disk that is
// full, and on one that is slow.

import assert from "node:assert/strict";
import {
  closeSync, createReadStream, openSync, truncateSync, writeFileSync, writeSync,
} from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test from "node:test";

import type { Exposition } from "./exposition.js";
import { type Agent, type Child, eventually, finished, kBuild, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kConnections = 100_000;
const kLeftOpen = 50;

interface Line {
  event: string;
  id?: number;
  listener?: string;
  cause?: string;
  lost?: number;
  opens?: number;
  closes?: number;
  denies?: number;
  received_bytes?: number;
  sent_bytes?: number;
}

const linesOf = (log: string): AsyncIterable<string> => createInterface({ input: createReadStream(log) });

// The audit log in a directory that the agent, which is nobody, may write to; the configuration that says so.
function configure(lab: Lab, more: Record<string, string> = {}): { log: string; flag: string } {
  const log = lab.auditFile();
  const audit = Object.entries({ file: log, ...more }).map(([key, value]) => `${key}: ${value}`);
  const config = join(lab.dir, "tcpvitals.yml");
  writeFileSync(
    config,
    `server:
  audit: { ${audit.join(", ")} }
  drain: { timeout: 1s }
  listeners:
    echo: { address: 127.0.0.1:10078 }
`,
  );
  return { log, flag: `--config.file=${config}` };
}

function attack(lab: Lab, network: Network, mode: string, count: number, seconds: number): Child {
  const options = ["--port", "10078", "--count", String(count), "--seconds", String(seconds)];
  return lab.start([...network.prefix, join(kBuild, "tcp_attack"), mode, ...options]);
}

test(`${kConnections} connections of mixed fate and a SIGTERM: every one opens and closes in the log`, async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const { log, flag } = configure(lab);
  const agent = await lab.agent(network, { flags: [flag] });
  await finished(attack(lab, network, "mixed", kConnections, 120));
  const page = agent.scrape();
  assert.ok(page.value("tcpvitals_audit_lines_total") > kConnections);
  assert.equal(page.value("tcpvitals_audit_lines_lost_total"), 0);
  const open = attack(lab, network, "idle", kLeftOpen, 3);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.equal(await agent.child.stop("SIGTERM"), 0);
  await finished(open);

  const opened = new Set<number>();
  const causes = new Map<string, number>();
  let lines = 0;
  let denied = 0;
  for await (const text of linesOf(log)) {
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

interface Books {
  opens: number;
  closes: number;
  denies: number;
  lost: number; // of them
  gaps: number; // records
}

// What the log accounts for: its lines, and those that it says are missing.
async function booksOf(log: string): Promise<Books> {
  const books = { opens: 0, closes: 0, denies: 0, lost: 0, gaps: 0 };
  for await (const text of linesOf(log)) {
    const line = JSON.parse(text) as Line;
    if (line.event === "open") ++books.opens;
    else if (line.event === "close") ++books.closes;
    else if (line.event === "deny") ++books.denies;
    else {
      assert.equal(line.event, "gap", text);
      assert.equal(line.lost, line.opens! + line.closes! + line.denies!);
      books.opens += line.opens!;
      books.closes += line.closes!;
      books.denies += line.denies!;
      books.lost += line.lost!;
      ++books.gaps;
    }
  }
  return books;
}

// When nothing waits any more: every connection that was accepted, on any listener, and every close is a line
// or in a gap record, and as many are in those as the metric says. The scrape that tells it is the last of them.
async function assertWhole(agent: Agent, log: string): Promise<Books> {
  return eventually(20, async () => {
    const page = agent.scrape();
    const accepted = page.sum("tcp_server_connections_accepted_total");
    const lost = page.value("tcpvitals_audit_lines_lost_total");
    assert.ok(page.value("tcpvitals_audit_queued_bytes") < 4096);
    return eventually(2, async () => {
      const books = await booksOf(log);
      assert.deepEqual(books, { opens: accepted, closes: accepted, denies: 0, lost, gaps: books.gaps });
      return books;
    });
  });
}

const count = (page: Exposition, what: string): number => page.value(`tcpvitals_audit_${what}`);

test("a full disk: who connects is served, and what is lost is counted in its place", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const { log, flag } = configure(lab, { buffer: "131072" });
  const disk = `mount -t tmpfs -o size=4m,mode=777 disk ${join(lab.dir, "log")} && exec "$@"`;
  const agent = await lab.agent(network, { flags: [flag], within: ["unshare", "--mount", "sh", "-c", disk, "sh"] });
  const seen = (path: string): string => `/proc/${agent.child.pid}/root${path}`; // it alone has that disk
  await finished(attack(lab, network, "mixed", 100, 20));
  assert.deepEqual((await assertWhole(agent, seen(log))).gaps, 0);

  const filler = seen(join(lab.dir, "log/filler"));
  const file = openSync(filler, "w");
  assert.throws(() => {
    for (;;) writeSync(file, Buffer.alloc(4096));
  }, /ENOSPC/);
  closeSync(file);
  for (let round = 1; round <= 2; ++round) {
    const { made } = await finished(attack(lab, network, "mixed", 2000, 20)); // each gets its answer
    assert.equal(made, 2000);
    const page = agent.scrape();
    assert.ok(count(page, "lines_lost_total") > 2000 * round);
    assert.ok(count(page, "write_errors_total") > 0);
    assert.ok(count(page, "queued_bytes") > 60_000); // the half that waits is full
    assert.ok(count(page, "queued_bytes") <= count(page, "queue_limit_bytes"));
  }
  await eventually(5, () => assert.match(agent.child.stderr, /audit log: cannot write.*No space left on device/));

  truncateSync(filler);
  const { lost, gaps } = await assertWhole(agent, seen(log));
  assert.ok(gaps > 0 && lost > 4000);
  await finished(attack(lab, network, "mixed", 100, 20));
  const after = await assertWhole(agent, seen(log));
  assert.deepEqual([after.lost, after.gaps], [lost, gaps], "it writes again");
  t.diagnostic(`${lost} lines lost, in ${gaps} gap records; ${after.opens} connections`);
});

test("a slow disk: nobody waits for it, and what is lost is counted in its place", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const { log, flag } = configure(lab, { buffer: "131072" });
  const agent = await lab.agent(network, { flags: [flag] });
  const slow = await lab.delay(agent, "audit", "write", 1);

  // 50 clients ask ten times a second each; a loop that waited for the disk would answer each once a second.
  const honest = attack(lab, network, "honest", 50, 4);
  const { made } = await finished(attack(lab, network, "mixed", 4000, 20));
  assert.equal(made, 4000);
  const { answers, lost: dropped } = await finished(honest);
  assert.ok(answers! > 1000, `${answers} answers`);
  assert.equal(dropped, 0);
  assert.ok(count(agent.scrape(), "lines_lost_total") > 1000);

  await slow.stop("SIGINT");
  const { opens, lost, gaps } = await assertWhole(agent, log);
  assert.ok(gaps > 0);
  t.diagnostic(`${answers} answers; ${lost} lines lost, in ${gaps} gap records; ${opens} connections`);
});
