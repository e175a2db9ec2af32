// A strict reader of the text exposition format 0.0.4. What Prometheus would forgive is an error here: a
// series twice, samples without HELP or TYPE, a family in two pieces, a counter without `_total`.

export type Labels = Record<string, string>;

export interface Sample {
  name: string;
  labels: Labels;
  value: number;
}

export interface Family {
  name: string;
  type: string;
  samples: Sample[];
}

// Whether `labels` has at least what `wanted` asks for.
export function matches(labels: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([name, value]) => labels[name] === value);
}

export class Exposition {
  constructor(readonly families: ReadonlyMap<string, Family>) {}

  // Of a histogram ask for its _bucket, _sum or _count.
  samples(name: string, labels: Labels = {}): Sample[] {
    const family = this.families.get(name) ?? this.families.get(name.replace(/_(bucket|sum|count)$/, ""));
    return (family?.samples ?? []).filter((s) => s.name === name && matches(s.labels, labels));
  }

  // Over every series that has these labels; 0 if none has.
  sum(name: string, labels: Labels = {}): number {
    return this.samples(name, labels).reduce((total, { value }) => total + value, 0);
  }

  // Of the one series that has these labels.
  value(name: string, labels: Labels = {}): number {
    const [sample, ...more] = this.samples(name, labels);
    if (!sample || more.length > 0) {
      throw new Error(`${name}${JSON.stringify(labels)}: ${sample ? "several series" : "no series"}`);
    }
    return sample.value;
  }
}

const kName = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const kSample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const kLabel = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/y;

function parseLabels(text: string): Labels {
  const labels: Labels = {};
  for (kLabel.lastIndex = 0; kLabel.lastIndex < text.length; ) {
    const [, name, value] = kLabel.exec(text) ?? [];
    if (name === undefined || value === undefined) throw new Error(`labels {${text}}`);
    if (name in labels) throw new Error(`label ${name} twice`);
    labels[name] = value.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c));
  }
  return labels;
}

function parseValue(text: string): number {
  const special: Record<string, number> = { "+Inf": Infinity, "-Inf": -Infinity, NaN };
  const value = special[text] ?? Number(text);
  if (Number.isNaN(value) && text !== "NaN") throw new Error(`value ${text}`);
  return value;
}

function checkHistogram(family: Family): void {
  const series = new Map<string, Sample[]>();
  for (const sample of family.samples) {
    const { le: _, ...rest } = sample.labels;
    const key = JSON.stringify(rest);
    series.set(key, [...(series.get(key) ?? []), sample]);
  }
  for (const [key, samples] of series) {
    const buckets = samples.filter((s) => s.name.endsWith("_bucket"));
    const counts = buckets.map((s) => s.value);
    const bounds = buckets.map((s) => parseValue(s.labels["le"] ?? "none"));
    const count = samples.find((s) => s.name.endsWith("_count"))?.value;
    const rising = (xs: number[]): boolean => xs.every((x, i) => i === 0 || x >= xs[i - 1]!);
    if (!rising(bounds) || !rising(counts) || bounds.at(-1) !== Infinity || counts.at(-1) !== count) {
      throw new Error(`histogram ${family.name}${key} is not cumulative up to its count`);
    }
    if (!samples.some((s) => s.name.endsWith("_sum"))) throw new Error(`${family.name} has no _sum`);
  }
}

function checkFamily(family: Family): void {
  const { name, type } = family;
  if (type === "counter" && !name.endsWith("_total")) throw new Error(`counter ${name} without _total`);
  if (type === "counter" && family.samples.some((s) => !(s.value >= 0))) {
    throw new Error(`counter ${name} below 0`);
  }
  if (type === "histogram") checkHistogram(family);
}

// Throws at the first thing that is wrong, with its line.
export function parseExposition(text: string): Exposition {
  const families = new Map<string, Family>();
  const helped = new Set<string>();
  const seen = new Set<string>();
  let current: Family | undefined;

  const readLine = (line: string): void => {
    const [, keyword, name, rest] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (keyword !== undefined && !kName.test(name!)) throw new Error(`name ${name}`);
    if (keyword === "HELP") {
      if (helped.has(name!) || !rest) throw new Error("HELP twice or empty");
      helped.add(name!);
    } else if (keyword === "TYPE") {
      if (families.has(name!) || !helped.has(name!)) throw new Error("TYPE twice or before its HELP");
      current = { name: name!, type: rest!, samples: [] };
      families.set(name!, current);
    } else {
      const [, sampleName, labels = "", value] = kSample.exec(line) ?? [];
      if (sampleName === undefined) throw new Error("not a sample");
      const base = current?.type === "histogram" ? sampleName.replace(/_(bucket|sum|count)$/, "") : sampleName;
      if (!current || current.name !== base) throw new Error("a sample outside of its family");
      const sample = { name: sampleName, labels: parseLabels(labels), value: parseValue(value!) };
      const key = sampleName + JSON.stringify(Object.entries(sample.labels).sort());
      if (seen.has(key)) throw new Error("a series twice");
      seen.add(key);
      current.samples.push(sample);
    }
  };

  if (!text.endsWith("\n")) throw new Error("the last line does not end");
  for (const [i, line] of text.slice(0, -1).split("\n").entries()) {
    try {
      readLine(line);
    } catch (error) {
      throw new Error(`line ${i + 1}: ${(error as Error).message}: ${line}`);
    }
  }
  for (const family of families.values()) checkFamily(family);
  return new Exposition(families);
}
