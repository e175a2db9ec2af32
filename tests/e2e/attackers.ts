// node build/js/tests/e2e/attackers.js MODE --port PORT --count COUNT --seconds SECONDS [--from ADDRESS,...]: peers that
// mean no good and speak HTTP or TLS; for what is simpler there is tcp_attack. Until the time is over, COUNT of each kind
// at once, each again and again:
//   bodies    POST, and go on with the body, a byte at a time, whatever is answered
//   readers   ask for most of a megabyte; one kind reads nothing of it, the other slowly
//   timeouts  scrape, with a header that says that they cannot wait, or for ever
//   keys      TLS 1.3: one KeyUpdate after the other, each of which asks for one; one kind reads those, the other not
//   ports     take COUNT ports of each address, from PORT on, and try to connect then
// One line of JSON says what happened: what was made, and how often each status was answered.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const [mode, ...flags] = process.argv.slice(2);
const option = (name: string, otherwise = ""): string =>
  flags.includes(`--${name}`) ? flags[flags.indexOf(`--${name}`) + 1]! : otherwise;
const kPort = Number(option("port"));
const kCount = Number(option("count"));
const kEnd = Date.now() + 1000 * Number(option("seconds"));
const kFrom = option("from", mode === "ports" ? "127.0.0.1" : "127.1.0.0,127.1.0.1").split(",");
const kTurn = 100; // ms

const done: Record<string, number> = { made: 0 };
const count = (what: string, more = 1): number => (done[what] = (done[what] ?? 0) + more);

interface Client {
  from: string;
  number: number;
}

// Sends that, and `drip` with each turn, until the other side ends the connection or the time is over. Reads
// `bytesPerSecond` at most.
async function ask({ from }: Client, request: string, { drip = "", bytesPerSecond = Infinity } = {}): Promise<void> {
  const socket = connect({ port: kPort, host: "127.0.0.1", localAddress: from, allowHalfOpen: true });
  let answer = "";
  socket.on("data", (bytes) => {
    answer += bytes.toString("latin1");
    if (bytesPerSecond === Infinity) return;
    socket.pause();
    if (bytesPerSecond > 0) setTimeout(() => socket.resume(), (1000 * bytes.length) / bytesPerSecond);
  });
  socket.on("end", () => drip === "" && socket.end());
  socket.on("error", () => {}); // a reset is an end too
  socket.write(request);
  const turns = setInterval(() => (Date.now() < kEnd ? drip !== "" && socket.write(drip) : socket.destroy()), kTurn);
  await new Promise((resolve) => socket.once("close", resolve));
  clearInterval(turns);
  const [, status] = /^HTTP\/1\.1 (\d+) /.exec(answer) ?? [];
  if (status === undefined) return void count("unanswered");
  count(status);
  const head = answer.indexOf("\r\n\r\n") + 4;
  if (Number(/\r\nContent-Length: (\d+)\r\n/.exec(answer)?.[1]) === answer.length - head) count("whole");
}

const bodies = (client: Client): Promise<void> =>
  ask(client, "POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n", { drip: "x" });

const reader = (bytesPerSecond: number) => (client: Client): Promise<void> =>
  ask(client, "GET /api/v1/connections?state=established&top=400 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", { bytesPerSecond });

const kTimeouts = ["0.0001", "0", "-1", "-inf", "NaN", "inf", "1e308", "1e-308", "9".repeat(400), "", "0x1p-9", "soon"];

function timeouts(client: Client): Promise<void> {
  const header = `X-Prometheus-Scrape-Timeout-Seconds: ${kTimeouts[client.number % kTimeouts.length]}`;
  return ask(client, `GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n${header}\r\n\r\n`);
}

// Between a client and the server: what the server says after the first KiB, in which it ends the handshake, is not
// passed on.
async function deafEar(): Promise<Server> {
  const ear = createServer((client) => {
    const server = connect(kPort, "127.0.0.1");
    client.pipe(server);
    let heard = 0;
    server.on("data", (bytes) => {
      client.write(bytes);
      if ((heard += bytes.length) > 1024) server.pause();
    });
    for (const [one, other] of [[client, server], [server, client]] as const) {
      one.on("error", () => {}).on("close", () => other.destroy());
    }
  });
  ear.listen(0, "127.0.0.1");
  await once(ear, "listening");
  return ear;
}

// s_client takes what it has read for a command if that begins with a K.
async function keys(port: number): Promise<void> {
  const client = spawn("openssl", ["s_client", "-tls1_3", "-connect", `127.0.0.1:${port}`]);
  client.stdin.on("error", () => {});
  client.stderr.on("data", (text: Buffer) => count("updates", text.toString().split("KEYUPDATE").length - 1));
  client.stdout.resume();
  const turns = setInterval(() => {
    if (Date.now() >= kEnd) client.kill();
    while (client.stdin.writable && client.stdin.write("K".repeat(16 << 10)));
  }, 1);
  await once(client, "close");
  clearInterval(turns);
}

async function deafKeys(): Promise<void> {
  const ear = await deafEar();
  await keys((ear.address() as AddressInfo).port);
  ear.close();
}

async function ports(): Promise<void> {
  const taken = kFrom.flatMap((host) => Array.from({ length: kCount }, (_, i) => ({ host, port: kPort + i })));
  await Promise.all(taken.map((address) => once(createServer().listen(address), "listening")));
  done["made"] = taken.length;
  const socket = connect(kPort, "127.0.0.1");
  count(
    await new Promise<string>((resolve) => {
      socket.once("connect", () => resolve("connected"));
      socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code!));
    }),
  );
  console.log('{"ready":true}');
  await sleep(kEnd - Date.now());
}

async function againAndAgain(act: (client: Client) => Promise<void>): Promise<void> {
  const one = async (from: string): Promise<void> => {
    while (Date.now() < kEnd) {
      await act({ from, number: count("made") });
      await sleep(kTurn);
    }
  };
  await Promise.all(Array.from({ length: kCount }, (_, i) => one(kFrom[i % kFrom.length]!)));
}

const kKinds: Record<string, ((client: Client) => Promise<void>)[]> = {
  bodies: [bodies],
  readers: [reader(0), reader(300_000)],
  timeouts: [timeouts],
  keys: [() => keys(kPort), deafKeys],
};

await (mode === "ports" ? ports() : Promise.all(kKinds[mode!]!.map(againAndAgain)));
console.log(JSON.stringify(done));
process.exit();
