// A reload does all that it is for, or nothing of it, whichever part cannot be done. The audit log is opened anew
// in any case, and its own failure is its own.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { eventually, finished, Lab } from "./harness.js";

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
  const holder = lab.load(network, "serve", { port: 9000 });
  await holder.ready();
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
      "another number of workers",
      /tcpvitals\.yml:6:12: server\.workers: \\?"77\\?": it is \d+ since the start, and another number needs a restart: kill -USR2 \d+/,
      () => writeFileSync(file("tcpvitals.yml"), `${config("second")}  workers: 77\n`),
      () => {},
    ],
    [
      "an address in use",
      /listener taken on 127\.0\.0\.1:9000: bind: Address already in use/,
      () => writeFileSync(file("tcpvitals.yml"), `${config("second")}    taken: { address: "127.0.0.1:9000" }\n`),
      () => {},
    ],
    [
      "no place for the audit log",
      /tcpvitals\.yml:3:18: server\.audit\.file: .*No such file or directory/,
      () => writeFileSync(file("tcpvitals.yml"), config("second").replace("audit.jsonl", "gone/audit.jsonl")),
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

test("1,000 connections live through 50 reloads that change everything but the workers", async (t) => {
  const lab = new Lab(t);
  const network = await lab.network();
  const file = (name: string): string => join(lab.dir, name);
  const audits = [lab.auditFile()];
  audits.push(`${audits[0]}.2`);
  for (const name of ["a", "b"]) {
    const kind = `-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=${name}`.split(" ");
    network.run(["openssl", "req", "-x509", ...kind, "-keyout", file(`${name}.key`), "-out", file(`${name}.crt`)]);
    network.run(["chmod", "644", file(`${name}.key`)]);
  }
  const kReloads = 50;
  const ports = { echo: 9100, relay: 9101, one: 9102, two: 9103, secure: 9104, passing: 9105, guarded: 9106, brief: 9107 };
  const at = (name: keyof typeof ports): string => `address: "127.0.0.1:${ports[name]}"`;
  // What is in force after reload i; 0 is the start.
  const odd = (i: number): boolean => i % 2 === 1;
  const backend = (i: number): "one" | "two" => (odd(i) ? "two" : "one");
  const limit = (i: number): number => 2000 + i;
  const certificate = (i: number): string => (odd(i) ? "b" : "a");
  const write = (i: number, more = ""): void =>
    writeFileSync(
      file("tcpvitals.yml"),
      `server:
  audit: { file: ${audits[i < kReloads / 2 ? 0 : 1]} }
  listeners:
    echo: { ${at("echo")}, max_connections: ${limit(i)}, deny: [192.0.2.${i}], deadlines: { idle: ${100 + i}s } }
    relay: { ${at("relay")}, handler: relay, backend: "127.0.0.1:${ports[backend(i)]}", send_buffer: ${65536 + i} }
    one: { ${at("one")}, per_peer: { connections: ${3000 + i} } }
    two: { ${at("two")}, accept_rate: { soft: ${5000 + i} } }
    secure: { ${at("secure")}, tls: { certificate: ${file(certificate(i))}.crt, key: ${file(certificate(i))}.key } }
    guarded: { ${at("guarded")}${i === kReloads ? ", deny: [127.0.0.0/8]" : ""} }
    brief: { ${at("brief")}${i === kReloads ? ", deadlines: { idle: 1s }" : ""} }
${odd(i) ? `    passing: { ${at("passing")} }\n` : ""}${more}`,
    );
  write(0);
  const flags = [`--config.file=${file("tcpvitals.yml")}`, "--web.enable-lifecycle"];
  const agent = await lab.agent(network, { flags });
  const post = (): string =>
    network.run(["curl", "-sS", "-X", "POST", "-w", "%{http_code}", "http://127.0.0.1:10077/-/reload"]);
  const bash = (script: string): string => network.run(["bash", "-c", script]);
  const echoes = (name: keyof typeof ports): string =>
    bash(`exec 3<>/dev/tcp/127.0.0.1/${ports[name]} && echo hello >&3 && head -n 1 <&3`);
  const refused = (name: keyof typeof ports): boolean =>
    bash(`exec 3<>/dev/tcp/127.0.0.1/${ports[name]} || echo refused`).includes("refused");
  const subject = (): string =>
    bash(`openssl s_client -connect 127.0.0.1:${ports.secure} < /dev/null 2> /dev/null | grep ^subject`);

  const talk = async (name: keyof typeof ports, connections: number, rate: number) => {
    const load = lab.load(network, "talk", { port: ports[name], connections, up: 64, rate });
    await load.ready();
    return load;
  };
  const lasting = [await talk("echo", 800, 3), await talk("relay", 200, 3)];
  const guarded = await talk("guarded", 1, 10);
  const brief = lab.start([...network.prefix, "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/${ports.brief}; read -u 3`]);
  const short = lab.load(network, "calls", { port: ports.echo, connections: 4, rate: 50, up: 64 });
  await short.ready();

  const accepted = (of: string): number =>
    agent.scrape().value("tcp_server_connections_accepted_total", { listener: of });
  await eventually(5, () => assert.equal(accepted("brief"), 1));
  const before = { one: accepted("one"), two: accepted("two") };
  assert.equal(before.one, 200);
  for (let i = 1; i <= kReloads; ++i) {
    write(i);
    assert.equal(post(), "reloaded\n200", agent.child.stderr);
    assert.equal(echoes("relay"), "hello\n");
    assert.match(subject(), new RegExp(`CN ?= ?${certificate(i)}`));
    if (odd(i)) {
      assert.equal(echoes("passing"), "hello\n");
    } else {
      assert.ok(refused("passing"));
    }
    ++before[backend(i)];
    const now = agent.scrape();
    assert.equal(now.value("tcp_server_connections_limit", { listener: "echo" }), limit(i));
    for (const name of ["one", "two"] as const) {
      assert.equal(now.value("tcp_server_connections_accepted_total", { listener: name }), before[name], `${name} ${i}`);
    }
    if (i % 10 === 0) {
      write(i, "  workers: 77\n");
      assert.match(post(), /server\.workers: "77": .*kill -USR2 \d+\s*500$/);
    }
  }

  // Those whom the new lists and deadlines ask to go are gone, and nobody else.
  guarded.closeStdin();
  assert.equal((await finished(guarded))["reset"], 1);
  await brief.end();
  const close = async (load: (typeof lasting)[0]) => {
    load.closeStdin();
    return finished(load);
  };
  const calls = await close(short);
  for (const load of lasting) {
    const fates = await close(load);
    assert.deepEqual({ ...fates, answered: 0 }, { answered: 0, refused: 0, reset: 0, cut: 0, other: 0 });
    assert.ok(fates["answered"]! > 200);
  }
  assert.deepEqual({ ...calls, answered: 0 }, { answered: 0, refused: 0, reset: 0, cut: 0, other: 0 });
  const closed = (listener: string, cause: string): number =>
    agent.scrape().value("tcp_server_connections_closed_total", { listener, cause });
  await eventually(10, () => assert.equal(closed("echo", "peer_fin"), 800 + calls["answered"]!));
  await eventually(10, () => assert.equal(closed("relay", "peer_fin"), 200 + kReloads));
  assert.equal(accepted("echo"), 800 + calls["answered"]!);
  assert.equal(accepted("relay"), 200 + kReloads);
  assert.equal(closed("guarded", "denied"), 1);
  assert.equal(closed("brief", "idle_timeout"), 1);
  await eventually(5, () => {
    const lines = audits.map((path) => readFileSync(path, "utf8").split("\n").slice(0, -1));
    assert.ok(lines.every((one) => one.length > 0));
    const opens = lines.flat().filter((line) => /"event":"open".*"listener":"echo"/.test(line));
    assert.equal(opens.length, 800 + calls["answered"]!);
  });
});
