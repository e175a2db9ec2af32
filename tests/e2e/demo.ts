// node build/js/tests/e2e/demo.js: two hosts in namespaces, a healthy network and then a lossy one; prints
// what the agent and Prometheus say every two seconds, until the alert fires. Ends within two minutes.
//
// The rules are the shipped ones with every minute made a second.

import { setTimeout as sleep } from "node:timers/promises";

import { renderRules, scaleGroups } from "../../alerts/render.js";
import { ruleGroups } from "../../alerts/rules.js";
import { Lab } from "./harness.js";

const kAlert = "TcpRetransmitsHigh";
const kServer = { address: "10.77.0.2", port: 9001 };
const kHealthySeconds = 14;
const kMostSeconds = 90;

const kLoss = `table inet faults {
  chain faults {
    type filter hook prerouting priority raw
    tcp dport ${kServer.port} ip length > 100 numgen random mod 100 < 10 drop
  }
}
`;

const lab = new Lab();
// `./dev demo | head`: whoever read this is gone, and nothing that was started may stay.
process.stdout.on("error", () => void lab.close().finally(() => process.exit(1)));
try {
  const sender = await lab.network();
  const receiver = await lab.network(sender);
  sender.connect(receiver, "200mbit");
  const server = lab.load(receiver, "serve", kServer);
  await server.ready();
  await lab.agent(sender);
  const prometheus = await lab.prometheus(sender, renderRules(scaleGroups(ruleGroups(), 1 / 60)));
  lab.load(sender, "send", { ...kServer, connections: 4, rate: 500_000, up: 500_000 * kMostSeconds });

  // NaN and nothing both mean: not known yet, a rate needs two scrapes.
  const ask = (promql: string, digits: number, factor = 1): string => {
    const value = (prometheus.query(promql)[0] ?? NaN) * factor;
    return (Number.isNaN(value) ? "-" : value.toFixed(digits)).padStart(9);
  };
  const port = `{direction="outbound",port="${kServer.port}"}`;
  console.log("  s   data segments/s  retransmitted/s  ratio %   RTT ms  alert");
  for (let second = 0; second < kMostSeconds; second += 2) {
    if (second === kHealthySeconds) {
      receiver.nft(kLoss);
      console.log(`  now one data packet in ten to port ${kServer.port} is dropped`);
    }
    const alerts = prometheus.alerts(kAlert);
    console.log(
      String(second).padStart(3),
      ask(`rate(tcp_data_segments_sent_total${port}[5s])`, 0).padStart(17),
      ask(`rate(tcp_retransmitted_segments_total${port}[5s])`, 1).padStart(16),
      ask("tcp_retrans", 2, 100),
      ask(`histogram_quantile(0.5, rate(tcp_rtt_seconds_bucket${port}[5s]))`, 3, 1000),
      alerts.length > 0 ? ` ${kAlert}: ${alerts.join(", ")}` : " -",
    );
    if (alerts.includes("critical firing")) break;
    await sleep(2000);
  }
} finally {
  await lab.close();
}
