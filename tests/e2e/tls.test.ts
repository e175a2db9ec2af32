// TLS of the real agent's listeners, seen by openssl, by testssl.sh and by node: what is spoken, what is refused,
// and that certificates are replaced under load without anyone noticing but by the certificate.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { type Agent, eventually, kBuild, kSource, Lab } from "./harness.js";
import type { Network } from "./network.js";

const kTestssl = join(kSource, "build/tools/testssl.sh");
const kPort = 8443;

function openssl(...args: string[]): string {
  return execFileSync("openssl", args, { encoding: "utf8", stdio: "pipe" });
}

interface Kind {
  rsa?: boolean;
  days?: number; // from now; negative: expired
}

// Files of certificates and keys in a directory of their own.
class Pki {
  readonly authority: string;

  constructor(private readonly dir: string) {
    mkdirSync(dir, { mode: 0o755 });
    this.authority = this.path("authority.pem");
    const key = this.makeKey("authority", false);
    const about = ["-days", "30", "-subj", "/CN=authority"];
    openssl("req", "-x509", "-new", "-key", key, ...about, "-out", this.authority);
  }

  path(name: string): string {
    return join(this.dir, name);
  }

  // NAME.pem and NAME.key, signed by the authority; replaced by renaming, one after the other.
  make(name: string, subject: string, { rsa = false, days = 90 }: Kind = {}): void {
    const key = this.makeKey("new", rsa);
    openssl("req", "-new", "-key", key, "-subj", `/CN=${subject}`, "-out", this.path("new.csr"));
    writeFileSync(
      this.path("extensions"),
      "subjectAltName=IP:127.0.0.1\ncrlDistributionPoints=URI:http://127.0.0.1/none.crl\n",
    );
    const signer = ["-CA", this.authority, "-CAkey", this.path("authority.key"), "-CAcreateserial"];
    const about = ["-days", String(days), "-extfile", this.path("extensions")];
    openssl("x509", "-req", "-in", this.path("new.csr"), ...signer, ...about, "-out", this.path("new.pem"));
    renameSync(this.path("new.pem"), this.path(`${name}.pem`));
    renameSync(this.path("new.key"), this.path(`${name}.key`));
  }

  private makeKey(name: string, rsa: boolean): string {
    const path = this.path(`${name}.key`);
    const kind = rsa ? ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"] : ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    openssl("genpkey", "-algorithm", ...kind, "-out", path);
    chmodSync(path, 0o644); // the agent is someone else
    return path;
  }
}

class Site {
  readonly pki: Pki;
  readonly config: string;

  private constructor(
    readonly lab: Lab,
    readonly network: Network,
  ) {
    this.pki = new Pki(join(lab.dir, "pki"));
    this.config = join(lab.dir, "tcpvitals.yml");
  }

  static async create(t: TestContext): Promise<Site> {
    const lab = new Lab(t);
    return new Site(lab, await lab.network());
  }

  // Echo listeners by name, from kPort on, each with the certificate of its name.
  configure(listeners: Record<string, string[]>): void {
    const lines = Object.entries(listeners).flatMap(([name, more], i) => [
      `    ${name}:`,
      `      address: 127.0.0.1:${kPort + i}`,
      "      tls:",
      `        certificate: ${this.pki.path(name)}.pem`,
      `        key: ${this.pki.path(name)}.key`,
      ...more.map((line) => `        ${line}`),
    ]);
    const directory = join(this.lab.dir, "audit");
    mkdirSync(directory, { recursive: true });
    chmodSync(directory, 0o777);
    const audit = `  audit: {file: ${join(directory, "audit.jsonl")}}`;
    writeFileSync(this.config, ["server:", audit, "  listeners:", ...lines, ""].join("\n"));
  }

  async agent(): Promise<Agent> {
    return this.lab.agent(this.network, { flags: [`--config.file=${this.config}`] });
  }

  // What openssl's client agreed on, such as "TLSv1.3 TLS_AES_256_GCM_SHA384"; undefined: nothing.
  agreed(port: number, ...flags: string[]): string | undefined {
    return this.hello(port, ...flags)["agreed"];
  }

  // The name in the certificate that new connections are shown.
  shown(): string | undefined {
    return this.hello(kPort)["subject"];
  }

  private hello(port: number, ...flags: string[]): { agreed?: string; subject?: string } {
    const address = `127.0.0.1:${port}`;
    const argv = [...this.network.prefix, "openssl", "s_client", "-brief", "-connect", address, ...flags];
    const { stderr } = spawnSync(argv[0]!, argv.slice(1), { input: "", encoding: "utf8", timeout: 10_000 });
    const said = (what: string) => new RegExp(`^${what}: (.*)$`, "m").exec(stderr)?.[1];
    if (!stderr.includes("CONNECTION ESTABLISHED")) return {};
    return { agreed: `${said("Protocol version")} ${said("Ciphersuite")}`, subject: said("Peer certificate") };
  }
}

function handshakes(agent: Agent, listener: string): Record<string, number> {
  const samples = agent.scrape().samples("tcp_server_tls_handshakes_total", { listener });
  return Object.fromEntries(samples.map(({ labels, value }) => [labels["outcome"]!, value]));
}

// Every suite that openssl's client can offer alone in that version.
function suites(version: string): string[] {
  const all = openssl("ciphers", "-s", `-${version}`, "ALL:COMPLEMENTOFALL:@SECLEVEL=0").trim().split(":");
  return all.filter((name) => name.startsWith("TLS_") === (version === "tls1_3"));
}

const kSuite13 = "TLS_AES_256_GCM_SHA384";

test("of all versions, suites and groups only those of the house are spoken", async (t) => {
  const site = await Site.create(t);
  site.pki.make("ecdsa", "ecdsa");
  site.pki.make("rsa", "rsa", { rsa: true });
  site.configure({ ecdsa: [], rsa: [] });
  const agent = await site.agent();
  const weak = ["-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"];
  for (const [i, name] of ["ecdsa", "rsa"].entries()) {
    const port = kPort + i;
    const suite12 = `ECDHE-${name.toUpperCase()}-AES256-GCM-SHA384`;
    let ok = 0;
    const spoken = (...flags: string[]) => {
      const agreed = site.agreed(port, ...flags);
      ok += agreed ? 1 : 0;
      return agreed;
    };
    assert.equal(spoken(), `TLSv1.3 ${kSuite13}`);
    assert.equal(spoken("-tls1_2"), `TLSv1.2 ${suite12}`);
    assert.equal(spoken("-tls1", ...weak), undefined);
    assert.equal(spoken("-tls1_1", ...weak), undefined);

    const some12 = suites("tls1_2");
    assert.ok(some12.length > 50, `${some12.length}`);
    const agreed12 = some12.filter((suite) => spoken("-tls1_2", "-cipher", `${suite}:@SECLEVEL=0`));
    assert.deepEqual(agreed12, [suite12]);
    const some13 = ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256", kSuite13];
    assert.deepEqual(some13.filter((suite) => spoken("-tls1_3", "-ciphersuites", suite)), [kSuite13]);
    const groups = ["X25519", "P-256", "P-384", "P-521", "X448"];
    const agreedOf = (version: string) => groups.filter((group) => spoken(version, "-groups", group));
    assert.deepEqual(agreedOf("-tls1_3"), ["X25519", "P-256"]);
    // In 1.2 a client must also name the group of an ECDSA certificate.
    assert.deepEqual(agreedOf("-tls1_2"), name === "ecdsa" ? ["P-256"] : ["X25519", "P-256"]);

    const counted = handshakes(agent, name);
    assert.equal(counted["ok"], ok);
    assert.equal(counted["version"], 2);
    assert.ok(counted["cipher"]! >= 3 + 6, `${counted["cipher"]}`);
    assert.deepEqual([counted["certificate"], counted["protocol"], counted["timeout"]], [0, 0, 0]);
  }
});

interface Finding {
  id: string;
  severity: string;
  finding: string;
}

test("testssl.sh finds nothing above low", { timeout: 300_000 }, async (t) => {
  const site = await Site.create(t);
  site.pki.make("rsa", "127.0.0.1", { rsa: true }); // with RSA there is more to try
  site.configure({ rsa: [] });
  await site.agent();
  // It will not start without a resolver, though it is given an address and told to leave names alone.
  writeFileSync(join(site.lab.dir, "host"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
  const report = join(site.lab.dir, "report.json");
  const scan = site.lab.start([
    ...[...site.network.prefix, "env", `PATH=${site.lab.dir}:${process.env["PATH"]}`],
    ...[`TESTSSL_INSTALL_DIR=${join(kTestssl, "etc/testssl")}`, join(kTestssl, "usr/bin/testssl")],
    ...["--quiet", "--warnings", "off", "--nodns", "none", "--add-ca", site.pki.authority],
    ...["--protocols", "--std", "--pfs", "--server-preference", "--server-defaults", "--vulnerable"],
    ...["--jsonfile", report, `127.0.0.1:${kPort}`],
  ]);
  await scan.end();
  assert.ok(existsSync(report), scan.stdout + scan.stderr);
  const findings = JSON.parse(readFileSync(report, "utf8")) as Finding[];
  const severities = new Map(findings.map(({ id, severity }) => [id, severity]));
  const seen = ["SSLv3", "TLS1_2", "TLS1_3", "cipher_order", "cert_chain_of_trust", "heartbleed", "LUCKY13", "RC4"];
  assert.deepEqual(seen.filter((id) => severities.get(id) !== "OK"), []);
  const bad = findings.filter(({ severity }) => ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].includes(severity));
  assert.deepEqual(bad, []);
});

test("a client certificate is asked for, checked, and written into the audit log", async (t) => {
  const site = await Site.create(t);
  site.pki.make("server", "server");
  site.pki.make("client", "client of the house");
  const stranger = new Pki(join(site.lab.dir, "stranger"));
  stranger.make("client", "stranger");
  site.configure({ server: [`client_ca: ${site.pki.authority}`] });
  const agent = await site.agent();
  const as = (pki: Pki) => ["-cert", pki.path("client.pem"), "-key", pki.path("client.key")];
  for (const version of ["-tls1_2", "-tls1_3"]) {
    site.agreed(kPort, version); // 1.3's client believes itself through before the server has looked
    site.agreed(kPort, version, ...as(stranger));
    assert.ok(site.agreed(kPort, version, ...as(site.pki)));
  }
  await eventually(5, () => {
    const { ok, certificate } = handshakes(agent, "server");
    assert.deepEqual({ ok, certificate }, { ok: 2, certificate: 4 });
  });
  assert.equal(await agent.child.stop(), 0);
  const lines = readFileSync(join(site.lab.dir, "audit", "audit.jsonl"), "utf8").trim().split("\n");
  const records = lines.map((line) => JSON.parse(line));
  const closes = records.filter(({ event, listener }) => event === "close" && listener === "server");
  const subjects = closes.map(({ tls_subject }) => tls_subject ?? "").sort();
  assert.deepEqual(subjects, ["", "", "", "", "CN=client of the house", "CN=client of the house"]);
});

test("certificates are replaced under load, by SIGHUP and by a change of the files; no connection breaks", async (t) => {
  const site = await Site.create(t);
  site.pki.make("server", "first");
  site.configure({ server: [] });
  const agent = await site.agent();
  const program = join(kSource, "build/js/tests/e2e/tls_clients.js");
  const clients = site.lab.start([...site.network.prefix, process.execPath, program, String(kPort)]);
  await eventually(10, () => assert.ok((handshakes(agent, "server")["ok"] ?? 0) > 40));
  for (const name of ["second", "third", "fourth", "fifth"]) {
    site.pki.make("server", name);
    if (name === "third") agent.child.signal("SIGHUP");
    await eventually(5, () => assert.equal(site.shown(), `CN = ${name}`));
    await sleep(200);
  }
  assert.ok(clients.running, clients.stderr);
  clients.closeStdin();
  assert.equal(await clients.end(), 0, clients.stderr);
  const { roundTrips, connections, subjects, errors } = JSON.parse(clients.stdout);
  assert.deepEqual(errors, []);
  assert.deepEqual(Object.keys(subjects), ["first", "second", "third", "fourth", "fifth"]);
  assert.ok(connections > 100 && roundTrips > 1000, clients.stdout);
  const page = agent.scrape();
  assert.equal(page.sum("tcp_server_connections_closed_total", { listener: "server", cause: "tls_error" }), 0);
  const expiry = page.value("tcp_server_tls_certificate_expiry_timestamp_seconds", { listener: "server" });
  assert.ok(Math.abs(expiry - Date.now() / 1000 - 90 * 86400) < 120, `${expiry}`);
  assert.ok(Date.now() / 1000 - page.value("tcp_server_tls_reload_timestamp_seconds", { listener: "server" }) < 30);
});

// What to do to the good files server.pem and server.key, and what is said then, of which file.
const kBroken: ReadonlyArray<readonly [what: string, spoil: (pki: Pki) => void, file: string, said: string]> = [
  ["an expired certificate", (pki) => pki.make("server", "x", { days: -1 }), "server.pem", "expired at 2"],
  [
    "another certificate's key",
    (pki) => (pki.make("other", "x"), copyFileSync(pki.path("other.key"), pki.path("server.key"))),
    "server.key",
    "not the key of the certificate in ",
  ],
  [
    "an encrypted key",
    (pki) => {
      const options = ["-aes256", "-passout", "pass:secret", "-out", pki.path("new.key")];
      openssl("pkey", "-in", pki.path("server.key"), ...options);
      chmodSync(pki.path("new.key"), 0o644);
      renameSync(pki.path("new.key"), pki.path("server.key"));
    },
    "server.key",
    "the key is encrypted: ",
  ],
  ["no certificate", (pki) => writeFileSync(pki.path("server.pem"), "none\n"), "server.pem", "no certificate in PEM form"],
  ["no key", (pki) => renameSync(pki.path("server.key"), pki.path("away")), "server.key", "No such file or directory"],
];

test("files that cannot be used are named by --config.check, and keep a listener closed until they can", async (t) => {
  const site = await Site.create(t);
  site.configure({ server: [] });
  for (const [what, spoil, file, said] of kBroken) {
    site.pki.make("server", "good");
    spoil(site.pki);
    const argv = [join(kBuild, "tcpvitals"), `--config.file=${site.config}`, "--config.check"];
    const child = site.lab.start([...site.network.prefix, ...argv]);
    assert.equal(await child.end(), 2, what);
    assert.match(child.stderr, /^tcpvitals: [^\n]+\n$/, what);
    const key = `server.listeners.server.tls.${file.endsWith("key") ? "key" : "certificate"}`;
    const [place, rest] = child.stderr.slice("tcpvitals: ".length).split(`: ${key}: "${site.pki.path(file)}": `);
    assert.match(place!, new RegExp(`^${site.config}:\\d+:\\d+$`), `${what}: ${child.stderr}`);
    assert.ok(rest!.startsWith(said), `${what}: ${child.stderr}`);
  }
  site.pki.make("server", "good");
  renameSync(site.pki.path("server.key"), site.pki.path("away"));
  const agent = await site.agent();
  const usable = () => agent.scrape().value("tcp_server_tls_files_usable", { listener: "server" });
  assert.equal(usable(), 0);
  assert.equal(site.shown(), undefined);
  site.pki.make("server", "mended");
  await eventually(5, () => assert.equal(site.shown(), "CN = mended"));
  assert.equal(usable(), 1);
});

test("files that cannot be used are not taken over by a running agent, which says so and goes on", async (t) => {
  const site = await Site.create(t);
  site.pki.make("server", "good 0");
  site.configure({ server: [] });
  const agent = await site.agent();
  const listener = { listener: "server" };
  const failures = () => agent.scrape().value("tcp_server_tls_reload_failures_total", listener);
  for (const [i, [what, spoil, file, said]] of kBroken.slice(1).entries()) {
    const before = failures();
    spoil(site.pki);
    if (i % 2 === 0) agent.child.signal("SIGHUP");
    await eventually(5, () => {
      assert.ok(failures() > before, what);
      assert.ok(agent.child.stderr.includes(`${site.pki.path(file)}: ${said}`), `${what}: ${agent.child.stderr}`);
    });
    assert.equal(site.shown(), `CN = good ${i}`);
    site.pki.make("server", `good ${i + 1}`);
    await eventually(5, () => assert.equal(site.shown(), `CN = good ${i + 1}`));
  }
});
