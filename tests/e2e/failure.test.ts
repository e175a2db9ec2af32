// One kernel file after the other is missing, cut short or garbage: its collector says so, every other
// collector goes on as if nothing had happened.

import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import type { Exposition } from "./exposition.js";
import { kSource, Lab } from "./harness.js";

const kFixture = join(kSource, "tests/fixtures/6.18-host/proc");

// Who reads it, and so who has to say that it is broken.
const kReaders: ReadonlyArray<readonly [path: RegExp, collector: string]> = [
  [/^net\/snmp$/, "snmp"],
  [/^net\/snmp6$/, "snmp6"],
  [/^net\/netstat$/, "netstat"],
  [/^net\/sockstat$/, "sockstat"],
  [/^net\/sockstat6$/, "sockstat6"],
  [/nf_conntrack/, "conntrack"],
  [/^sys\/net\/(core|ipv4)\//, "sysctl"],
  [/^(self\/|stat$)/, "process"],
];

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
    const outcome = `success ${success}, available ${available}`;
    if (["connections", "server"].includes(collector)) return outcome;
    return `${outcome}, ${page.value("tcpvitals_series", { collector })} series`;
  };
  return new Map(
    page
      .samples("tcpvitals_collector_success")
      .map(({ labels, value }) => [labels["collector"]!, said(labels["collector"]!, value)]),
  );
}

test("every kernel file, damaged in every way, costs its own collector only", async (t) => {
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
  for (const [name, said] of healthy) assert.match(said, /^success 1, available 1/, name);

  const settings = sysctlFiles(page);
  const files = filesBelow(kFixture).filter((path) =>
    path.startsWith("sys/net/") && !path.includes("netfilter") ? settings.has(path) : !path.startsWith("self/fd/"),
  );
  for (const file of files) {
    const [, reader] = kReaders.find(([pattern]) => pattern.test(file)) ?? [];
    assert.ok(reader, `nobody reads ${file}`);
    for (const [kind, damage] of Object.entries(kDamages)) {
      const damaged = outcomes(await pageWith(() => damage(join(proc, file))));
      const changed = [...healthy.keys()].filter((name) => damaged.get(name) !== healthy.get(name));
      assert.deepEqual(changed, [reader], `${file} ${kind}: ${changed.map((n) => damaged.get(n))}`);
      if (kind !== "missing") assert.match(damaged.get(reader)!, /^success 0, .* 0 series/, `${file} ${kind}`);
    }
  }
});
