// Every query of every dashboard finds data in a real Prometheus that scrapes the real agent under load, and
// every rule can be evaluated there, whatever connections are grouped by.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { ruleGroups } from "../../alerts/rules.js";
import { kDashboards } from "../../dashboards/all.js";
import { kAll, labelQuestions, questions } from "../../dashboards/queries.js";
import { eventually, Lab } from "./harness.js";

const kValues = { ...kAll, __rate_interval: "5s" }; // five scrapes

// The kernel shows these limits of the whole machine to its first network namespace only.
const kOfTheMachine = /\btcp_host_(memory|orphans)_limit/;

// One connection to the echo server that is never idle for long.
const kTalk = "exec 3<>/dev/tcp/127.0.0.1/10078 && while echo hello >&3; do sleep 0.1; done";

// With every label there is; what else runs on this machine is none of the test's.
const kGroupings = [
  { config: "{group_by: [direction, port, peer]}", unprivileged: true },
  { config: "{group_by: [direction, port, peer, cgroup, netns], limits: {namespaces: 1}}", unprivileged: false },
];

// At once, for the panel of the worst connections waits for one that is a minute old.
describe("dashboards", { concurrency: true }, () => {
  for (const { config, unprivileged } of kGroupings) {
    test(`every query of every dashboard finds data: ${config}`, async (t) => {
      const lab = new Lab(t);
      const network = await lab.network();
      const file = join(lab.dir, "config.yml");
      writeFileSync(file, `connections: ${config}\n`);
      await lab.agent(network, { flags: [`--config.file=${file}`], unprivileged });
      const prometheus = await lab.prometheus(network, "groups: []");
      lab.start([...network.prefix, "bash", "-c", kTalk]);

      const asked = Object.values(kDashboards).flatMap((dashboard) => [
        ...questions(dashboard, kValues).map((q) => ({ where: `${q.panel} ${q.refId}`, expr: q.expr })),
        ...labelQuestions(dashboard, kValues).map((q) => ({
          where: `$${q.variable}`,
          expr: `count by (${q.label}) (${q.series})`,
        })),
      ]);
      const hasData = (expr: string): boolean => prometheus.query(expr).some(Number.isFinite);

      await eventually(150, async () => {
        await lab.runLoad(network, "churn", { port: 9001, count: 200, up: 2000, down: 2000 });
        await sleep(1000);
        const empty = asked.filter(({ expr }) => !hasData(expr));
        assert.deepEqual(
          empty.map(({ where }) => where),
          asked.filter(({ expr }) => kOfTheMachine.test(expr)).map(({ where }) => where),
        );
      });
      for (const { expr } of ruleGroups().flatMap((g) => g.rules)) prometheus.query(expr);
    });
  }
});
