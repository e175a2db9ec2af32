// Network namespaces of one's own, as root or, where user namespaces are allowed, as anyone.
//
// A namespace lives as long as the `cat` that holds it, and that ends with this process' pipe to it: no
// name is left behind in the system, however a test ends.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";

const kRoot = process.getuid!() === 0;

export class Network {
  private constructor(private readonly holder: ChildProcess) {}

  // With its loopback up. Throws where the system allows no namespaces: there the tests cannot run.
  static async create(neighbour?: Network): Promise<Network> {
    const command = ["sh", "-c", "ip link set lo up && echo ready && exec cat"];
    const argv = neighbour
      ? [...neighbour.sharedUser, "unshare", "--net", ...command]
      : ["unshare", ...(kRoot ? [] : ["--map-root-user"]), "--net", ...command];
    const holder = spawn(argv[0]!, argv.slice(1), { stdio: ["pipe", "pipe", "pipe"] });
    let said = "";
    holder.stderr.on("data", (text) => (said += text));
    const ready = await Promise.race([once(holder.stdout, "data"), once(holder, "exit")]);
    if (!String(ready[0]).startsWith("ready")) {
      throw new Error(`no network namespace here: run as root or allow user namespaces: ${said.trim()}`);
    }
    return new Network(holder);
  }

  private get pid(): string {
    return String(this.holder.pid);
  }

  private get sharedUser(): string[] {
    return kRoot ? [] : ["nsenter", "--target", this.pid, "--user", "--preserve-credentials"];
  }

  // Its inode number: what the label netns says of a namespace without a name.
  get id(): string {
    return this.run(["stat", "--dereference", "--format=%i", "/proc/self/ns/net"]).trim();
  }

  // What to write before a command so that it runs here.
  get prefix(): string[] {
    const user = kRoot ? [] : ["--user", "--preserve-credentials"];
    return ["nsenter", "--target", this.pid, ...user, "--net"];
  }

  // Runs to its end; gives its output, throws with its errors if it fails.
  run(argv: string[], input = ""): string {
    const [program, ...args] = [...this.prefix, ...argv];
    return execFileSync(program!, args, {
      input,
      encoding: "utf8",
      maxBuffer: 1 << 28,
      stdio: "pipe",
    });
  }

  // A setting of sysctl here; gives what sets it back.
  set(key: string, value: string): () => void {
    const before = this.run(["sysctl", "-n", key]).trim();
    const write = (now: string) => void this.run(["sysctl", "-qw", `${key}=${now}`]);
    write(value);
    return () => write(before);
  }

  nft(rules: string): void {
    this.run(["nft", "-f", "-"], rules);
  }

  // Of the named counters, packets and bytes.
  nftCounter(name: string): { packets: number; bytes: number } {
    const { nftables } = JSON.parse(this.run(["nft", "-j", "list", "counters"])) as {
      nftables: { counter?: { name: string; packets: number; bytes: number } }[];
    };
    const found = nftables.find((entry) => entry.counter?.name === name);
    if (!found) throw new Error(`no nft counter ${name}`);
    return found.counter!;
  }

  // A cable between the two: this end 10.77.0.1, that end 10.77.0.2, one packet on it for each TCP
  // segment, so that a counter of packets is a counter of segments. `rate`: as tc writes it.
  connect(other: Network, rate: string): void {
    this.run(["ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", other.pid]);
    for (const [network, address] of [[this, "10.77.0.1/24"], [other, "10.77.0.2/24"]] as const) {
      network.run(["ip", "address", "add", address, "dev", "veth0"]);
      network.run(["ip", "link", "set", "veth0", "gso_max_segs", "1", "up"]);
      const tbf = ["tbf", "rate", rate, "burst", "64kb", "latency", "1s"];
      network.run(["tc", "qdisc", "add", "dev", "veth0", "root", ...tbf]);
    }
  }

  close(): void {
    this.holder.stdin!.end();
    this.holder.kill();
  }
}
