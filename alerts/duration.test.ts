import assert from "node:assert/strict";
import test from "node:test";

import { parseDuration, scaleDuration } from "./duration.js";

test("a duration keeps its spelling at scale 1", () => {
  for (const text of ["1ms", "30s", "5m", "1h", "1d"]) assert.equal(scaleDuration(text, 1), text);
});

test("minutes become seconds at 1/60", () => {
  assert.equal(scaleDuration("5m", 1 / 60), "5s");
  assert.equal(scaleDuration("1h", 1 / 60), "1m");
  assert.equal(scaleDuration("30s", 1 / 60), "500ms");
});

test("compound durations add up, nonsense is refused", () => {
  assert.equal(parseDuration("1h30m"), 5_400_000);
  for (const text of ["", "5", "m", "5 m", "1.5h"]) assert.throws(() => parseDuration(text));
});
