// What the end-to-end tests are made of: the agent, Prometheus and loads, started and stopped by a Lab.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { type Exposition, parseExposition } from "./exposition.js";
import { Network } from "./network.js";

export const kSource = fileURLToPath(new URL("../../../../", import.meta.url)); // from build/js/tests/e2e
export const kBuild = join(kSource, "build/release");
export const kAttackers = [process.execPath, join(kSource, "build/js/tests/e2e/attackers.js")];
export const kPrometheus = join(kSource, "build/tools/prometheus/usr/bin");

// Of the requests that the tests make themselves: the port, and the hop behind it.
export const kOwnPorts = new Set(["10077", "tcpvitals"]);

export const kMetrics = "http://127.0.0.1:10077/metrics";

// How many times longer than a usual machine this one may take. An emulated one (./dev kernels) takes longer.
export const kPatience = Number(process.env["TCPVITALS_PATIENCE"] ?? 1);

// Tries until it does not throw; gives up with the last error.
export async function eventually<T>(seconds: number, attempt: () => T | Promise<T>): Promise<T> {
  const deadline = Date.now() + seconds * kPatience * 1000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    await sleep(50);
  }
}

// Whether that process lives; one that has ended and that nobody waits for still has a directory.
export const running = (pid: number): boolean =>
  existsSync(`/proc/${pid}`) && !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));

// A child process and all it has said.
export class Child {
  stdout = "";
  stderr = "";
  private readonly process: ChildProcess;
  private readonly exited: Promise<unknown>;
  private linesRead = 0;

  constructor(argv: string[]) {
    this.process = spawn(argv[0]!, argv.slice(1), { stdio: "pipe" });
    this.process.stdout!.on("data", (text) => (this.stdout += text));
    this.process.stderr!.on("data", (text) => (this.stderr += text));
    this.exited = once(this.process, "close");
    this.exited.catch(() => {}); // a program that is not there is told by end()
  }

  get pid(): number {
    return this.process.pid!;
  }

  get running(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  async ready(): Promise<void> {
    await eventually(30, () => {
      if (this.running && !this.stdout.includes('"ready"')) throw new Error("not ready in 30 s");
    });
    if (!this.running) throw new Error(`ended too early: ${this.stderr}`);
  }

  // The next line of stdout that nobody has asked for yet; undefined if it ended without one more.
  async line(): Promise<string | undefined> {
    for (;;) {
      const lines = this.stdout.split("\n").slice(0, -1);
      if (this.linesRead < lines.length) return lines[this.linesRead++];
      if (!this.running) return undefined;
      await Promise.race([once(this.process.stdout!, "data"), this.exited]);
    }
  }

  tell(line: string): void {
    this.process.stdin!.write(`${line}\n`);
  }

  // The exit status, or the signal that ended it.
  async end(): Promise<number | string> {
    this.resumeStderr();
    await this.exited;
    return this.process.exitCode ?? this.process.signalCode!;
  }

  // From now on nobody reads what it says there, until resumeStderr().
  stallStderr(): void {
    this.process.stderr!.pause();
  }

  resumeStderr(): void {
    this.process.stderr!.resume();
  }

  closeStdin(): void {
    this.process.stdin!.end();
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | string> {
    this.signal(signal);
    return this.end();
  }
}

export class Agent {
  constructor(
    readonly child: Child,
    private readonly network: Network,
  ) {}

  text(): string {
    return this.network.run(["curl", "-sS", "--fail", "--max-time", String(10 * kPatience), kMetrics]);
  }

  scrape(): Exposition {
    return parseExposition(this.text());
  }

  // That of the HTTP server behind the door: the kernel chose it.
  innerPort(): number {
    const listening = [...this.network.run(["ss", "-tlnH"]).matchAll(/ 127\.0\.0\.1:(\d+) /g)];
    const above = listening.map(([, port]) => Number(port)).filter((port) => port > 32_767);
    const ports = [...new Set(above)]; // two sockets, of which one drops what is not the door's
    if (ports.length !== 1) throw new Error(`not one port but ${ports}`);
    return ports[0]!;
  }
}

export class Prometheus {
  constructor(private readonly network: Network) {}

  private get<T>(path: string, query = ""): T {
    const url = `http://127.0.0.1:9090/api/v1/${path}`;
    const reply = this.network.run(["curl", "-sS", "--get", "--data-urlencode", `query=${query}`, url]);
    const { data, error } = JSON.parse(reply) as { data?: T; error?: string };
    if (data === undefined) throw new Error(`${query || path}: ${error}`);
    return data;
  }

  // Values of an instant query.
  query(promql: string): number[] {
    const { result } = this.get<{ result: { value: [number, string] }[] }>("query", promql);
    return result.map(({ value }) => Number(value[1]));
  }

  // "severity state" of each pending or firing alert of that name.
  alerts(name: string): string[] {
    const { alerts } = this.get<{ alerts: { labels: Record<string, string>; state: string }[] }>("alerts");
    return alerts
      .filter(({ labels }) => labels["alertname"] === name)
      .map(({ labels, state }) => `${labels["severity"]} ${state}`);
  }
}

// Without any privilege, whoever starts it.
const kNobody =
  process.getuid!() === 0
    ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    : ["setpriv", "--securebits=+noroot"];
const kUnprivileged = [...kNobody, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"];

// Owns everything a test starts; all of it ends with the test.
export class Lab {
  readonly dir = mkdtempSync(join(tmpdir(), "tcpvitals-"));
  private readonly children: Child[] = [];
  private readonly networks: Network[] = [];

  constructor(t?: TestContext) {
    chmodSync(this.dir, 0o755);
    t?.after(() => this.close());
  }

  async close(): Promise<void> {
    await Promise.all(this.children.filter((c) => c.running).map((c) => c.stop("SIGKILL")));
    for (const network of this.networks.reverse()) network.close();
    rmSync(this.dir, { recursive: true });
  }

  async network(neighbour?: Network): Promise<Network> {
    const network = await Network.create(neighbour);
    this.networks.push(network);
    return network;
  }

  // Where an agent that is nobody may write its audit log.
  auditFile(): string {
    const directory = join(this.dir, "log");
    mkdirSync(directory);
    chmodSync(directory, 0o777);
    return join(directory, "audit.jsonl");
  }

  start(argv: string[]): Child {
    const child = new Child(argv);
    this.children.push(child);
    return child;
  }

  // A load (see tests/e2e/load.cc), running.
  load(network: Network, mode: string, options: Record<string, string | number>): Child {
    const all = { seconds: 120 * kPatience, ...options };
    const flags = Object.entries(all).flatMap(([name, value]) => [`--${name}`, String(value)]);
    return this.start([...network.prefix, join(kBuild, "tcp_load"), mode, ...flags]);
  }

  // A load, done: what it says it did.
  async runLoad(network: Network, mode: string, options: Record<string, string | number>) {
    return finished(this.load(network, mode, options));
  }

  // The agent as uid 65534 without capabilities, or as whoever runs the test; answering. `within`: a command
  // that starts it, before it has lost its privileges.
  async agent(
    network: Network,
    { flags = [] as string[], unprivileged = true, descriptors = 0, within = [] as string[] } = {},
  ): Promise<Agent> {
    const program = join(this.dir, "tcpvitals"); // a place that everyone may execute from
    copyFileSync(join(kBuild, "tcpvitals"), program);
    // A session of its own, as a service has one: the scheduler shares the CPUs between sessions first, and
    // must not count the agent with the load.
    const limit = descriptors > 0 ? ["prlimit", `--nofile=${descriptors}`] : [];
    const prefix = [...network.prefix, "setsid", ...within, ...limit, ...(unprivileged ? kUnprivileged : [])];
    const child = this.start([...prefix, program, ...flags]);
    const agent = new Agent(child, network);
    await eventually(5, () => {
      if (!child.running) throw new Error(`the agent ended: ${child.stderr}`);
      return agent.scrape();
    });
    if (unprivileged) {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      if (!/^CapEff:\t0+$/m.test(status)) throw new Error("the agent has capabilities");
    }
    return agent;
  }

  // Holds a thread of the agent, by its name, for so long before each such system call, until strace is stopped.
  async delay(agent: Agent, thread: string, call: string, seconds: number): Promise<Child> {
    const tasks = `/proc/${agent.child.pid}/task`;
    const id = readdirSync(tasks).find((task) => readFileSync(`${tasks}/${task}/comm`, "utf8") === `${thread}\n`)!;
    const fault = ["-e", `trace=${call}`, "-e", `inject=${call}:delay_enter=${1e6 * seconds}`];
    const strace = this.start(["strace", "-p", id, ...fault]);
    await eventually(10, () => {
      if (!strace.stderr.includes("attached")) throw new Error(`strace: ${strace.stderr}`);
    });
    return strace;
  }

  // Scrapes the agent of the same network every second, with the rules in `rules` every second.
  async prometheus(network: Network, rules: string): Promise<Prometheus> {
    writeFileSync(join(this.dir, "rules.yml"), rules);
    writeFileSync(
      join(this.dir, "prometheus.yml"),
      `global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs: [{job_name: tcpvitals, static_configs: [{targets: ["127.0.0.1:10077"]}]}]
`,
    );
    const child = this.start([
      ...network.prefix,
      join(kPrometheus, "prometheus"),
      `--config.file=${this.dir}/prometheus.yml`,
      `--storage.tsdb.path=${this.dir}/tsdb`,
      "--web.listen-address=127.0.0.1:9090",
      "--log.level=warn",
    ]);
    await eventually(30, () => {
      if (!child.running) throw new Error(`Prometheus ended: ${child.stderr}`);
      return network.run(["curl", "-sS", "--fail", "http://127.0.0.1:9090/-/ready"]);
    });
    return new Prometheus(network);
  }
}

// Waits for a load that ends by itself: what it says it did.
export async function finished(load: Child): Promise<Record<string, number>> {
  const status = await load.end();
  if (status !== 0) throw new Error(`load: ${status}: ${load.stderr}`);
  return JSON.parse(load.stdout.trim().split("\n").at(-1)!) as Record<string, number>;
}
