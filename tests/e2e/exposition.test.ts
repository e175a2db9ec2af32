import assert from "node:assert/strict";
import test from "node:test";

import { parseExposition } from "./exposition.js";

const kGood = `# HELP tcp_x_total One.
# TYPE tcp_x_total counter
tcp_x_total{a="q\\"\\\\\\n",b=""} 1e3
tcp_x_total{a="r",b=""} 2
# HELP tcp_h_seconds Two.
# TYPE tcp_h_seconds histogram
tcp_h_seconds_bucket{le="0.5"} 1
tcp_h_seconds_bucket{le="+Inf"} 3
tcp_h_seconds_sum 7
tcp_h_seconds_count 3
`;

test("what is right is read", () => {
  const page = parseExposition(kGood);
  assert.equal(page.value("tcp_x_total", { a: 'q"\\\n' }), 1000);
  assert.equal(page.sum("tcp_x_total"), 1002);
  assert.equal(page.value("tcp_h_seconds_bucket", { le: "+Inf" }), 3);
  assert.throws(() => page.value("tcp_x_total"), /several/);
  assert.throws(() => page.value("tcp_y"), /no series/);
});

const kBad: ReadonlyArray<readonly [what: string, from: string, to: string]> = [
  ["a series twice", 'a="r"', 'a="q\\"\\\\\\n"'],
  ["a label twice", 'a="r",b=""', 'a="r",a="s"'],
  ["no TYPE", "# TYPE tcp_x_total counter\n", ""],
  ["no HELP", "# HELP tcp_h_seconds Two.\n", ""],
  ["an empty HELP", "Two.", ""],
  ["a family in two pieces", "tcp_h_seconds_sum 7", 'tcp_x_total{a="late"} 7'],
  ["a counter without _total", "tcp_x_total", "tcp_x"],
  ["a counter below 0", "1e3", "-1"],
  ["no number", "1e3", "many"],
  ["a bad escape", "q\\", "\\q\\"],
  ["a bad label", 'b=""', "b=1"],
  ["buckets that fall", '"0.5"} 1', '"0.5"} 4'],
  ["a last bucket that is not the count", "_count 3", "_count 4"],
  ["no +Inf bucket", "+Inf", "9"],
  ["no sum", "tcp_h_seconds_sum 7\n", ""],
  ["a line without end", "_count 3\n", "_count 3"],
];

for (const [what, from, to] of kBad) {
  test(`${what} is refused`, () => {
    const bad = kGood.replaceAll(from, to);
    assert.notEqual(bad, kGood);
    assert.throws(() => parseExposition(bad));
  });
}
