// Series as promtool reads them: `metric{a="b"}`, with the job and instance that every one has.

export type Labels = Record<string, string>;

const kPlace: Labels = { job: "tcpvitals", instance: "db1" };

// `metric{a="b"}` with further labels; those it has already stay.
export function labelled(series: string, more: Labels): string {
  const [metric, labels] = series.split(/[{}]/);
  const own = [...(labels ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]);
  const all = Object.entries({ ...more, ...(Object.fromEntries(own) as Labels) });
  return `${metric}{${all.map(([name, value]) => `${name}="${value}"`).join(",")}}`;
}

export const placed = (series: string): string => labelled(series, kPlace);

export const inputSeries = (series: Record<string, string>): object[] =>
  Object.entries(series).map(([name, values]) => ({ series: placed(name), values }));
