// What a guest says of its tests on the console, a line each: what passed, what failed and how, and the
// figures that a test tells.

import type { TestEvent } from "node:test/reporters";

// What node adds at the end.
const kSummary = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /;

// Of a failure, what was wrong and where in the test.
function told(error: Error): string {
  const { stack, message } = (error.cause ?? error) as Error;
  return `${message} ${/\S+\.test\.js:\d+/.exec(stack ?? "")?.[0] ?? ""}`;
}

function line({ type, data }: TestEvent): string | undefined {
  if (type === "test:pass") return `ok ${data.name}`;
  if (type === "test:fail") return `FAILED ${data.name}: ${told(data.details.error)}`;
  if (type === "test:diagnostic" && !kSummary.test(data.message)) return `figures ${data.message}`;
  return undefined;
}

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    const said = line(event)?.replaceAll("\n", " ");
    if (said !== undefined) yield `guest: ${said}\n`;
  }
}
