// One kernel file after the other is missing, cut short or garbage: what comes from it is missing and its
// collector says so, every other collector goes on as if nothing had happened.

import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import type { Exposition } from "./exposition.js";
import { kSource, Lab } from "./harness.js";

const kFixture = join(kSource, "tests/fixtures/6.18-host/proc");

// Which collectors read a file: those of which METRICS.md names it, or a directory above it, as a source. What
// connections reads there only scales it.
function readersByFile(): Map<string, Set<string>> {
  const readers = new Map<string, Set<string>>();
  for (const section of readFileSync(join(kSource, "METRICS.md"), "utf8").split("\n## Collector `").slice(1)) {
    const collector = section.slice(0, section.indexOf("`"));
    if (collector === "connections") continue;
    for (const [, file] of section.matchAll(/[ ]\/proc\/([^\s,|]+)/g)) {
      readers.set(file!, (readers.get(file!) ?? new Set()).add(collector));
    }
  }
  return readers;
}

function readersOf(path: string, readers: Map<string, Set<string>>): string[] {
  const above = path.slice(0, path.lastIndexOf("/"));
  return [...new Set([...(readers.get(path) ?? []), ...(readers.get(above) ?? [])])];
}

// There are no reserved ports in the fixture: without this file nothing is less.
const kSaysNothing = "sys/net/ipv4/ip_local_reserved_ports";

const kDamages: Record<string, (path: string) => void> = {
  missing: (path) => rmSync(path),
  empty: (path) => writeFileSync(path, ""),
  "cut short": (path) => writeFileSync(path, readFileSync(path, "utf8").slice(0, 11).trimEnd() + "-"),
  garbage: (path) => writeFileSync(path, "\0\xff{}\n-: 7 x\n".repeat(50), "latin1"),
};

function filesBelow(dir: string, prefix = ""): string[] {
  return readdirSync(join(dir, prefix)).flatMap((name) => {
    const path = join(prefix, name);
    return statSync(join(dir, path)).isDirectory() ? filesBelow(dir, path) : [path];
  });
}

// The settings that the page shows: the fixture has more.
function sysctlFiles(page: Exposition): Set<string> {
  const keys = page.samples("tcp_sysctl_value").map(({ labels }) => labels["key"]!.replace(/\[.*/, ""));
  return new Set(keys.map((key) => `sys/${key.replaceAll(".", "/")}`));
}

// How each collector did, and how many series it gave; but those of the sockets have as many as there are
// sockets at the moment.
function outcomes(page: Exposition): Map<string, string> {
  const said = (collector: string, success: number): string => {
    const available = page.value("tcpvitals_collector_available", { collector });
    const told = page.value("tcpvitals_parse_errors_total", { collector }) > 0;
    const outcome = `success ${success}, available ${available}, told ${told}`;
    if (["connections", "server"].includes(collector)) return outcome;
    return `${outcome}, ${page.value("tcpvitals_series", { collector })} series`;
  };
  return new Map(
    page
      .samples("tcpvitals_collector_success")
      .map(({ labels, value }) => [labels["collector"]!, said(labels["collector"]!, value)]),
  );
}

test("every kernel file, damaged in every way, costs only what comes from it, and is told", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const proc = join(lab.dir, "proc");
  const pageWith = async (damage: () => void): Promise<Exposition> => {
    cpSync(kFixture, proc, { recursive: true });
    damage();
    const agent = await lab.agent(network, { flags: [`--path.procfs=${proc}`, "--log.level=error"] });
    const page = agent.scrape();
    await agent.child.stop("SIGKILL");
    rmSync(proc, { recursive: true });
    return page;
  };

  const page = await pageWith(() => {});
  const healthy = outcomes(page);
  for (const [name, said] of healthy) {
    const standsIn = name === "proc_tcp"; // for sock_diag, which is there
    assert.match(said, standsIn ? /^success 1, available 0/ : /^success 1, available 1/, name);
  }

  const settings = sysctlFiles(page);
  const readers = readersByFile();
  const files = filesBelow(kFixture).filter(
    (path) => !path.startsWith("self/fd/") && (readers.has(path) || settings.has(path)),
  );
  assert.ok(files.length > 40, `only ${files.length} files`);
  for (const file of files) {
    const [reader, ...others] = readersOf(file, readers);
    assert.ok(reader !== undefined && others.length === 0, `${file}: ${reader}, ${others}`);
    for (const [kind, damage] of Object.entries(kDamages)) {
      const damaged = outcomes(await pageWith(() => damage(join(proc, file))));
      const changed = [...healthy.keys()].filter((name) => damaged.get(name) !== healthy.get(name));
      if (kind === "missing" && file === kSaysNothing) continue;
      assert.deepEqual(changed, [reader], `${file} ${kind}: ${changed.map((n) => damaged.get(n))}`);
      assert.match(damaged.get(reader)!, kind === "missing" ? /told false/ : /told true/, `${file} ${kind}`);
    }
  }
});
