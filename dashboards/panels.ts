// The few kinds of panels our dashboards are made of, and how they are laid out.
//
// A panel always has a unit, a description and a legend; its queries name the data source by variable.
// Ids, refIds and grid positions come from the order, so the generated JSON changes only where its
// source does.

import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import * as common from "@grafana/grafana-foundation-sdk/common";
import * as dash from "@grafana/grafana-foundation-sdk/dashboard";
import * as heatmaps from "@grafana/grafana-foundation-sdk/heatmap";
import * as prom from "@grafana/grafana-foundation-sdk/prometheus";
import * as stats from "@grafana/grafana-foundation-sdk/stat";
import * as timelines from "@grafana/grafana-foundation-sdk/statetimeline";
import * as tables from "@grafana/grafana-foundation-sdk/table";
import * as series from "@grafana/grafana-foundation-sdk/timeseries";
import * as units from "@grafana/grafana-foundation-sdk/units";

export { units };

const kGridColumns = 24;
const kDatasource = { type: "prometheus", uid: "${datasource}" };

// What every query selects by.
const kSelected = 'job=~"$job",instance=~"$instance"';

export const gauge = (metric: string, matchers = ""): string =>
  `${metric}{${kSelected}${matchers && `,${matchers}`}}`;
export const rate = (counter: string, matchers = ""): string =>
  `rate(${gauge(counter, matchers)}[$__rate_interval])`;
export const sumBy = (labels: string, expr: string): string => `sum by (${labels}) (${expr})`;
export const sum = (expr: string): string => `sum(${expr})`;
// No sample where there is nothing to divide by.
export const ratio = (part: string, whole: string): string => `${part}\n/\n(${whole} > 0)`;
export const quantile = (q: number, histogram: string, labels = "le"): string =>
  `histogram_quantile(${q}, ${sumBy(labels, rate(`${histogram}_bucket`))})`;

export type Query = [legend: string, expr: string];
export type Limit = [from: number, color: "green" | "orange" | "red"];

export interface Text {
  title: string;
  description: string;
  unit: string;
  width: number; // of 24
  queries: Query[];
}

export interface Panel {
  width: number;
  height: number;
  build(id: number, position: dash.GridPos): Builder<dash.Panel>;
}

// What all panel builders of the SDK have in common.
interface AnyPanel extends Builder<dash.Panel> {
  id(id: number): this;
  title(title: string): this;
  description(description: string): this;
  datasource(datasource: common.DataSourceRef): this;
  gridPos(position: dash.GridPos): this;
  unit(unit: string): this;
  thresholds(thresholds: Builder<dash.ThresholdsConfig>): this;
  withTarget(target: Builder<prom.Dataquery>): this;
}

function query([legend, expr]: Query, i: number): prom.DataqueryBuilder {
  return new prom.DataqueryBuilder()
    .datasource(kDatasource)
    .editorMode(prom.QueryEditorMode.Code)
    .refId(String.fromCharCode("A".charCodeAt(0) + i))
    .expr(expr)
    .legendFormat(legend);
}

function panel(
  text: Text,
  height: number,
  builder: () => AnyPanel,
  kind: (query: prom.DataqueryBuilder) => prom.DataqueryBuilder = (q) => q.range(),
): Panel {
  return {
    width: text.width,
    height,
    build(id, position) {
      const b = builder()
        .id(id)
        .title(text.title)
        .description(text.description)
        .unit(text.unit)
        .datasource(kDatasource)
        .gridPos(position);
      text.queries.forEach((q, i) => b.withTarget(kind(query(q, i))));
      return b;
    },
  };
}

function thresholds(limits: Limit[] = []): dash.ThresholdsConfigBuilder {
  return new dash.ThresholdsConfigBuilder()
    .mode(dash.ThresholdsMode.Absolute)
    .steps([
      { value: null, color: "green" },
      ...limits.map(([value, color]) => ({ value, color })),
    ]);
}

const legend = (): common.VizLegendOptionsBuilder =>
  new common.VizLegendOptionsBuilder()
    .showLegend(true)
    .displayMode(common.LegendDisplayMode.Table)
    .placement(common.LegendPlacement.Bottom)
    .calcs(["lastNotNull", "max"]);

const tooltip = (): common.VizTooltipOptionsBuilder =>
  new common.VizTooltipOptionsBuilder()
    .mode(common.TooltipDisplayMode.Multi)
    .sort(common.SortOrder.Descending);

// Lines from zero up, or to both sides. `lines` are drawn across; series whose legend contains
// "limit" are dashed.
export function timeseries(
  text: Text & { stacked?: boolean; logarithmic?: boolean; signed?: boolean; lines?: Limit[] },
): Panel {
  return panel(text, 8, () => {
    const b = new series.PanelBuilder()
      .thresholds(thresholds(text.lines))
      .thresholdsStyle(
        new common.GraphThresholdsStyleConfigBuilder().mode(
          text.lines ? common.GraphThresholdsStyleMode.Line : common.GraphThresholdsStyleMode.Off,
        ),
      )
      .drawStyle(common.GraphDrawStyle.Line)
      .lineWidth(1)
      .fillOpacity(text.stacked ? 30 : 8)
      .showPoints(common.VisibilityMode.Never)
      .stacking(
        new common.StackingConfigBuilder().mode(
          text.stacked ? common.StackingMode.Normal : common.StackingMode.None,
        ),
      )
      .legend(legend())
      .tooltip(tooltip())
      .overrideByRegexp("/limit/", [
        { id: "custom.lineStyle", value: { fill: "dash", dash: [8, 8] } },
        { id: "custom.fillOpacity", value: 0 },
      ]);
    if (text.signed) return b;
    if (!text.logarithmic) return b.min(0);
    return b.scaleDistribution(
      new common.ScaleDistributionConfigBuilder().type(common.ScaleDistribution.Log).log(10),
    );
  });
}

// The last value, large, over its own recent past.
export function stat(text: Text & { limits?: Limit[] }): Panel {
  return panel(text, 4, () =>
    new stats.PanelBuilder()
      .thresholds(thresholds(text.limits))
      .colorMode(text.limits ? common.BigValueColorMode.Value : common.BigValueColorMode.None)
      .graphMode(common.BigValueGraphMode.Area)
      .textMode(
        text.queries.length > 1
          ? common.BigValueTextMode.ValueAndName
          : common.BigValueTextMode.Value,
      )
      .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(["lastNotNull"])),
  );
}

// One query that yields a histogram's buckets by `le`.
export function heatmap(text: Text): Panel {
  return panel(
    text,
    8,
    () =>
      new heatmaps.PanelBuilder()
        .thresholds(thresholds())
        .calculate(false)
        .rowsFrame(new heatmaps.RowsHeatmapOptionsBuilder().layout(common.HeatmapCellLayout.Auto))
        .cellValues(new heatmaps.CellValuesBuilder().unit(units.CountsPerSecond))
        .yAxis(new heatmaps.YAxisConfigBuilder().unit(text.unit))
        .color(
          new heatmaps.HeatmapColorOptionsBuilder()
            .mode(heatmaps.HeatmapColorMode.Scheme)
            .scheme("Oranges")
            .scale(heatmaps.HeatmapColorScale.Exponential)
            .exponent(0.5)
            .steps(64),
        )
        .filterValues(new heatmaps.FilterValueRangeBuilder().le(1e-9)) // leaves empty cells blank
        .tooltip(
          new heatmaps.HeatmapTooltipBuilder()
            .mode(common.TooltipDisplayMode.Single)
            .yHistogram(true)
            .showColorScale(true),
        )
        .showLegend(),
    (q) => q.range().format(prom.PromQueryFormat.Heatmap),
  );
}

// What was 0 or 1 when.
export function timeline(text: Text & { states: [zero: string, one: string] }): Panel {
  const [zero, one] = text.states;
  return panel(text, 8, () =>
    new timelines.PanelBuilder()
      .thresholds(thresholds())
      .legend(legend().displayMode(common.LegendDisplayMode.List).calcs([]))
      .tooltip(tooltip())
      .showValue(common.VisibilityMode.Never)
      .mergeValues(true)
      .mappings([
        {
          type: dash.MappingType.ValueToText,
          options: {
            "0": { text: zero, color: "red", index: 0 },
            "1": { text: one, color: "green", index: 1 },
          },
        },
      ]),
  );
}

// One row per `labels`, one column per query, headed by its legend; `units` by legend.
export function table(
  text: Text & { labels: string[]; units: Record<string, string>; sortBy: string },
): Panel {
  return panel(
    text,
    10,
    () => {
      const refId = (i: number): string => `Value #${String.fromCharCode("A".charCodeAt(0) + i)}`;
      const order = [...text.labels, ...text.queries.map((_, i) => refId(i))];
      const b = new tables.PanelBuilder()
        .thresholds(thresholds())
        .showHeader(true)
        .filterable(true)
        .sortBy([new common.TableSortByFieldStateBuilder().displayName(text.sortBy).desc(true)])
        .withTransformation({ id: "merge", options: {} })
        .withTransformation({
          id: "organize",
          options: {
            excludeByName: { Time: true },
            indexByName: Object.fromEntries(order.map((name, i) => [name, i])),
            renameByName: Object.fromEntries(text.queries.map(([name], i) => [refId(i), name])),
          },
        });
      for (const [column, unit] of Object.entries(text.units)) {
        b.overrideByName(column, [{ id: "unit", value: unit }]);
      }
      return b;
    },
    (q) => q.instant().format(prom.PromQueryFormat.Table),
  );
}

export interface Row {
  title: string;
  panels: Panel[];
}

// From left to right; what does not fit starts a new line as high as its highest panel.
function lay(builder: dash.DashboardBuilder, rows: Row[]): void {
  let id = 0;
  let y = 0;
  for (const { title, panels } of rows) {
    builder.withRow(
      new dash.RowBuilder(title).id(++id).gridPos({ x: 0, y, w: kGridColumns, h: 1 }),
    );
    y += 1;
    let x = 0;
    let line = 0;
    for (const p of panels) {
      if (x + p.width > kGridColumns) {
        y += line;
        x = line = 0;
      }
      builder.withPanel(p.build(++id, { x, y, w: p.width, h: p.height }));
      x += p.width;
      line = Math.max(line, p.height);
    }
    y += line;
  }
}

function labelVariable(name: string, label: string, query: string): dash.QueryVariableBuilder {
  return new dash.QueryVariableBuilder(name)
    .label(label)
    .datasource(kDatasource)
    .query({ query, refId: `variable-${name}` })
    .definition(query)
    .refresh(dash.VariableRefresh.OnTimeRangeChanged)
    .sort(dash.VariableSort.NaturalAsc)
    .multi(true)
    .includeAll(true)
    .allValue(".+")
    .current({ selected: true, text: ["All"], value: ["$__all"] });
}

export function dashboard(
  text: { uid: string; title: string; description: string; tags: string[] },
  rows: Row[],
): dash.Dashboard {
  const builder = new dash.DashboardBuilder(text.title)
    .uid(text.uid)
    .description(text.description)
    .tags(text.tags)
    .timezone("browser")
    .time({ from: "now-1h", to: "now" })
    .refresh("30s")
    .tooltip(dash.DashboardCursorSync.Crosshair)
    .editable()
    .withVariable(
      new dash.DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"),
    )
    .withVariable(labelVariable("job", "Job", "label_values(tcpvitals_build_info, job)"))
    .withVariable(
      labelVariable(
        "instance",
        "Instance",
        'label_values(tcpvitals_build_info{job=~"$job"}, instance)',
      ),
    );
  lay(builder, rows);
  return builder.build();
}
