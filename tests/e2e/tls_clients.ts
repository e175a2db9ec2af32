// node build/js/tests/e2e/tls_clients.js PORT: 40 TLS connections that stay and talk, and 4 at a time that come
// for one round trip, with an echo server on 127.0.0.1; until stdin ends. One line of JSON says what was done.

import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";
import { setTimeout as sleep } from "node:timers/promises";

const kPort = Number(process.argv[2]);
const kStaying = 40;
const kComing = 4;
const kPause = 5; // ms, so that the machine is not the limit
const kPatience = 10_000; // ms

let ending = false;
process.stdin.on("end", () => (ending = true)).resume();

const done = { roundTrips: 0, connections: 0, subjects: {} as Record<string, number>, errors: [] as string[] };

async function open(): Promise<TLSSocket> {
  const socket = connect({ port: kPort, host: "127.0.0.1", rejectUnauthorized: false });
  socket.setTimeout(kPatience, () => socket.destroy(new Error("silence")));
  await once(socket, "secureConnect");
  const subject = socket.getPeerCertificate().subject.CN;
  done.subjects[subject] = (done.subjects[subject] ?? 0) + 1;
  ++done.connections;
  return socket;
}

async function roundTrip(socket: TLSSocket, number: number): Promise<void> {
  const text = `${number}:${"x".repeat(number % 500)}\n`;
  socket.write(text);
  for (let answer = ""; answer !== text; ) {
    const [bytes] = (await once(socket, "data")) as [Buffer];
    answer += bytes.toString();
    if (!text.startsWith(answer)) throw new Error(`sent ${text}, received ${answer}`);
  }
  ++done.roundTrips;
}

async function close(socket: TLSSocket): Promise<void> {
  socket.end();
  socket.resume();
  await once(socket, "close");
}

async function client(trips: number): Promise<void> {
  try {
    const socket = await open();
    for (let number = 0; number < trips && !ending; ++number) {
      await roundTrip(socket, number);
      await sleep(kPause);
    }
    await close(socket);
  } catch (error) {
    done.errors.push(String(error));
  }
}

async function comers(): Promise<void> {
  while (!ending) await client(1);
}

await Promise.all([
  ...Array.from({ length: kStaying }, () => client(Infinity)),
  ...Array.from({ length: kComing }, comers),
]);
console.log(JSON.stringify(done));
