// Prometheus durations ("90s", "1h30m"), and the same durations on a faster clock.

const kUnits: ReadonlyArray<readonly [unit: string, ms: number]> = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
  ["ms", 1],
];

// Throws on what Prometheus would not read either.
export function parseDuration(text: string): number {
  if (!/^(\d+(d|h|ms|m|s))+$/.test(text)) throw new Error(`not a duration: ${text}`);
  let total = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(d|h|ms|m|s)/g)) {
    total += Number(count) * kUnits.find(([name]) => name === unit)![1];
  }
  return total;
}

// In the largest unit that divides it: 300000 is "5m", 90000 is "90s".
export function formatDuration(ms: number): string {
  const [unit, size] = kUnits.find(([, size]) => ms >= size && ms % size === 0) ?? ["ms", 1];
  return `${ms / size}${unit}`;
}

// `scale` 1/60 turns "5m" into "5s". Never below a millisecond: Prometheus has no shorter window.
export function scaleDuration(text: string, scale: number): string {
  return formatDuration(Math.max(1, Math.round(parseDuration(text) * scale)));
}
