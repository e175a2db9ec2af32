import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { kRoot } from "../alerts/promtool.js";
import { kDashboards, render } from "./all.js";
import { kAll, panels, questions } from "./queries.js";

const kCommitted = join(kRoot, "dashboards/json");

test("the committed dashboards are what the source generates", () => {
  assert.deepEqual(readdirSync(kCommitted).sort(), Object.keys(kDashboards).sort());
  for (const [file, dashboard] of Object.entries(kDashboards)) {
    assert.equal(
      readFileSync(join(kCommitted, file), "utf8"),
      render(dashboard),
      "run ./dev golden",
    );
  }
});

for (const [file, dashboard] of Object.entries(kDashboards)) {
  const all = panels(dashboard);

  test(`${file}: every query is narrowed to the chosen job and instance`, () => {
    for (const { panel, expr } of questions(dashboard, { ...kAll, job: "J", instance: "I" })) {
      const selectors = expr.match(/\b(tcp|tcpvitals|process)_\w+(\{[^}]*\})?/g) ?? [];
      assert.ok(selectors.length > 0, panel);
      for (const s of selectors) assert.match(s, /\{job=~"J",instance=~"I"/, `${panel}: ${s}`);
    }
  });

  test(`${file}: every panel says what it shows, in which unit, from the chosen data source`, () => {
    for (const p of all) {
      const where = p.title ?? `panel ${p.id}`;
      assert.ok(p.title, where);
      assert.match(p.description ?? "", /^[A-Z].*\.$/, where);
      assert.ok(p.fieldConfig?.defaults.unit, where);
      assert.deepEqual(p.datasource, { type: "prometheus", uid: "${datasource}" }, where);
      const asked = questions({ ...dashboard, panels: [p] }, kAll);
      assert.ok(asked.length > 0, where);
      for (const q of asked) assert.deepEqual(q.datasource, p.datasource, where);
    }
  });

  test(`${file}: ids, titles, refIds and legends are there and unique`, () => {
    const unique = (values: unknown[], where: string): void => {
      assert.ok(values.every(Boolean), where);
      assert.equal(new Set(values).size, values.length, where);
    };
    unique(
      (dashboard.panels ?? []).map((p) => p.id),
      "ids",
    );
    unique(
      all.map((p) => p.title),
      "titles",
    );
    for (const p of all) {
      const asked = questions({ ...dashboard, panels: [p] }, kAll);
      unique(
        asked.map((q) => q.refId),
        `${p.title}: refIds`,
      );
      unique(
        asked.map((q) => q.legend),
        `${p.title}: legends`,
      );
    }
  });

  test(`${file}: panels lie inside the grid, none on another, no line with a gap`, () => {
    const cells = new Map<string, string>();
    for (const p of dashboard.panels ?? []) {
      const { x, y, w, h } = p.gridPos!;
      assert.ok(x >= 0 && x + w <= 24 && h > 0, p.title);
      for (let i = x; i < x + w; ++i) {
        for (let j = y; j < y + h; ++j) {
          const other = cells.get(`${i},${j}`);
          assert.equal(other, undefined, `${p.title} lies on ${other}`);
          cells.set(`${i},${j}`, p.title!);
        }
      }
    }
    const height = Math.max(...(dashboard.panels ?? []).map((p) => p.gridPos!.y + p.gridPos!.h));
    assert.equal(cells.size, 24 * height);
  });

  test(`${file}: the lists to choose from are those every dashboard has`, () => {
    const variables = dashboard.templating?.list ?? [];
    assert.deepEqual(
      variables.map((v) => v.name),
      ["datasource", "job", "instance"],
    );
    for (const v of variables.slice(1)) {
      assert.deepEqual(
        [v.multi, v.includeAll, v.allValue, v.refresh],
        [true, true, ".+", 2],
        v.name,
      );
    }
  });
}
