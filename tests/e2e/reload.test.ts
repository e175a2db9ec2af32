// A reload does all that it is for, or nothing of it, whichever part cannot be done. The audit log is opened anew
// in any case, and its own failure is its own.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { eventually, Lab } from "./harness.js";

test("whichever part of a reload fails, nothing has changed; then all of it has", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const file = (name: string): string => join(lab.dir, name);
  const audit = lab.auditFile();
  const kind = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=one".split(" ");
  const make = (): string =>
    network.run(["openssl", "req", "-x509", ...kind, "-keyout", file("key"), "-out", file("crt")]) +
    network.run(["chmod", "644", file("key")]);
  make();
  const config = (peer: string, server = ""): string => `connections: { peers: { ${peer}: 127.0.0.0/8 } }
server:
  audit: { file: ${audit} }
  listeners:
    secure: { address: "127.0.0.1:10079", tls: { certificate: ${file("crt")}, key: ${file("key")} } ${server} }
`;
  writeFileSync(file("tcpvitals.yml"), config("first"));
  const agent = await lab.agent(network, { flags: [`--config.file=${file("tcpvitals.yml")}`] });

  const groups = (): Set<string | undefined> =>
    new Set(agent.scrape().samples("tcp_connections").map(({ labels }) => labels["peer"]));
  const reloads = (outcome: string): number => agent.scrape().value("tcpvitals_config_reloads_total", { outcome });
  const writtenTo = (path: string): boolean => {
    const before = existsSync(path) ? readFileSync(path).length : 0;
    network.run(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/10079"]);
    for (let i = 0; i < 20; ++i) {
      network.run(["sleep", "0.1"]);
      if (existsSync(path) && readFileSync(path).length > before) return true;
    }
    return false;
  };
  assert.ok(groups().has("first"));

  const rows: [string, RegExp, () => void, () => void][] = [
    ["not YAML", /not YAML/, () => writeFileSync(file("tcpvitals.yml"), config("second") + "]"), () => {}],
    [
      "another server",
      /server: changed, which needs a restart: kill -USR2 \d+/,
      () => writeFileSync(file("tcpvitals.yml"), config("second", ", backlog: 7")),
      () => {},
    ],
  ];
  for (const [what, said, spoil, mend] of rows) {
    const failures = reloads("failure");
    writeFileSync(file("tcpvitals.yml"), config("second"));
    spoil();
    renameSync(audit, `${audit}.1`);
    agent.child.signal("SIGHUP");
    await eventually(5, () => assert.equal(reloads("failure"), failures + 1, what));
    await eventually(5, () => assert.match(agent.child.stderr.split("configuration not reloaded").at(-1)!, said, what));
    assert.ok(groups().has("first") && !groups().has("second"), what);
    assert.ok(writtenTo(audit), what);
    mend();
  }
  renameSync(audit, `${audit}.1`);
  agent.child.signal("SIGUSR1"); // which is for the audit log alone
  await eventually(5, () => assert.ok(existsSync(audit)));
  assert.equal(reloads("success"), 0);

  writeFileSync(file("tcpvitals.yml"), config("second"));
  agent.child.signal("SIGHUP");
  await eventually(5, () => assert.equal(reloads("success"), 1));
  assert.ok(groups().has("second"));
  assert.ok(writtenTo(audit));
  // The same file again: a rotation needs no change in it.
  renameSync(audit, `${audit}.2`);
  agent.child.signal("SIGHUP");
  await eventually(5, () => assert.equal(reloads("success"), 2));
  assert.ok(writtenTo(audit));

  renameSync(audit, `${audit}.3`);
  mkdirSync(audit);
  agent.child.signal("SIGHUP");
  await eventually(5, () => assert.equal(reloads("success"), 3));
  await eventually(5, () => assert.match(agent.child.stderr, /audit log not opened anew.*Is a directory/));
  assert.ok(writtenTo(`${audit}.3`));
});
