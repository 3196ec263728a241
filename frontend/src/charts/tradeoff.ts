/** Trade-off of a metric and a cost: one point per row, the mean over its finished runs with its interval. */
import type { CustomSeriesRenderItem } from "echarts/types/dist/shared";
import { button, check, fill, make } from "../dom";
import { end, extreme, mean, shown } from "../format";
import { symbol } from "../looks";
import { cost, metricHeader, model, rowOf, runOf, shownRows } from "../model";
import { palette, tint } from "../theme";
import type { Mean, Run } from "../types";
import { openRuns } from "../views";
import { MARK, places } from "./labels";
import { axis, bubble, padded, Panel } from "./panel";

interface Point extends Mean {
  row: string;
  x: number;
  costText: string;
}

const HINT =
  "One point per row: the mean over its finished runs with its 95 % t interval; hollow: no interval (one seed, equal values, " +
  "or seeds that were added until it was decided); bars of percentages end at 0 and 100; dashed: the Pareto front of the means, without single seeds beside several. Drag to zoom.";

/** As the tables have it, a cost in which a row's runs differ has no value; their seconds have a mean. */
function costOf(runs: Run[], key: string): number | null {
  const values = runs.map((run) => run.cost[key] ?? (key === "wall_seconds" ? run.wall_seconds : null)).filter((value) => value !== null);
  return (key === "wall_seconds" ? values.length : new Set(values).size === 1) ? mean(values) : null;
}

/** Points that no other one beats: costs no more, is no worse, and is better in one of the two. Rounding is no difference. */
export function front(points: Point[], sign: number): Point[] {
  const same = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));
  const beats = (a: Point, b: Point): boolean => {
    const [sameCost, sameWorth] = [same(a.x, b.x), same(a.mean, b.mean)];
    return (sameCost || a.x < b.x) && (sameWorth || sign * a.mean > sign * b.mean) && !(sameCost && sameWorth);
  };
  const most = Math.max(...points.map((point) => point.n)); // a single seed beats no mean over several: luck alone could
  const kept = points.filter((point) => point.n > 1 || most === 1);
  const cheapestFirst = kept.sort((a, b) => a.x - b.x || sign * (b.mean - a.mean)); // these beat most others
  return cheapestFirst.filter((point) => !cheapestFirst.some((other) => beats(other, point)));
}

function pointsOf(x: string, y: string): Point[] {
  return shownRows().flatMap(({ row, means }) => {
    const runs = (model.idsOf.get(row) ?? []).map(runOf).filter((run) => run.status === "done");
    const [value, across] = [means[y], costOf(runs, x)];
    if (!value || across === null) return [];
    const costText = (x !== "wall_seconds" && runs[0]?.texts[x]) || shown(across / cost(x).scale);
    return [{ ...value, row, x: across / cost(x).scale, costText }];
  });
}

const ends = (point: Point, header: string): [low: number, high: number] => [end(point.low ?? point.mean, header), end(point.high ?? point.mean, header)];

const interval = (point: Point): string => (point.low === null ? "no interval" : `${shown(point.low)} to ${shown(point.high)}`);

const bar: CustomSeriesRenderItem = (_, api) => {
  const [x, low, high] = [0, 1, 2].map((dimension) => Number(api.value(dimension))) as [number, number, number];
  const [from, to] = [api.coord([x, low]), api.coord([x, high])] as [[number, number], [number, number]];
  return { type: "line", shape: { x1: from[0], y1: from[1], x2: to[0], y2: to[1] }, style: { stroke: String(api.visual("color")), lineWidth: 1.5 } };
};

export function tradeoff(): Panel {
  const panel = new Panel("scatter", "Trade-off", HINT);
  const [across, up] = [make("select", { id: "x" }), make("select", { id: "y" })];
  let isLog = false;
  const log = check("Log axis", false, (isOn) => {
    isLog = isOn;
    draw();
  });
  panel.controls.append(make("label", {}, "Across ", across), make("label", {}, "Up ", up), log);

  const draw = (): void => {
    const runs = Object.values(model.data.runs);
    const costs = [...new Set(runs.flatMap((run) => Object.keys(run.cost)))].sort();
    fill(across, [...costs, "wall_seconds"].map((key) => [key, cost(key).label]), "macs");
    const metrics = Object.keys(model.data.metrics).filter((key) => runs.some((run) => key in run.metrics));
    fill(up, metrics.map((key) => [key, model.data.metrics[key]?.label ?? key]), model.data.primary);
    const [x, y] = [across.value, up.value];
    const points = pointsOf(x, y);
    if (!points.length) return panel.show(model.hidden.size ? "No row is shown." : "Nothing to draw yet.");
    const { ink, paper, soft } = palette();
    const canLog = points.every((point) => point.x > 0);
    const xLog = isLog && canLog;
    const xRange = padded(extreme(points.map((point) => point.x)), xLog);
    const yRange = padded(extreme(points.flatMap((point) => ends(point, metricHeader(y)))));
    const steps = front(points, model.data.metrics[y]?.sign ?? 1).map((point): [number, number] => [point.x, point.mean]);
    const dearest = steps.at(-1);
    if (dearest) steps.push([xRange[1], dearest[1]]);
    const [width, height] = [panel.width - 86, panel.height - 62]; // within the axes
    const share = (value: number, range: [number, number], isLogged = false): number => {
      const [low, at, high] = [range[0], value, range[1]].map((one) => (isLogged ? Math.log(one) : one)) as [number, number, number];
      return (at - low) / (high - low);
    };
    const pixel = ([across, up]: [number, number]): [number, number] => [share(across, xRange, xLog) * width, (1 - share(up, yRange)) * height];
    const names = points.map((point) => rowOf(point.row).label);
    const placed = places(points.map((point) => pixel([point.x, point.mean])), names, steps.map(pixel), width);
    const open = (row: string) => () => openRuns(model.idsOf.get(row) ?? []);
    panel.show(
      {
        option: {
          xAxis: axis(cost(x).header, { isLog: xLog, range: xRange }),
          yAxis: axis(metricHeader(y), { range: yRange, isUp: true }),
          series: [
            { type: "line", id: "front", step: "end", data: steps, symbol: "none", silent: true, lineStyle: { color: soft, width: 1.2, type: [6, 4] } },
            {
              type: "custom",
              id: "bars",
              renderItem: bar,
              silent: true,
              clip: true,
              encode: { x: 0, y: [1, 2] },
              data: points.filter((point) => point.low !== null).map((point) => ({
                value: [point.x, ...ends(point, metricHeader(y))],
                itemStyle: { color: tint(rowOf(point.row).colour) },
              })),
            },
            {
              type: "scatter",
              id: "points",
              symbolSize: MARK,
              labelLayout: { hideOverlap: true },
              data: points.map((point, i) => {
                const { colour, marker, label } = rowOf(point.row);
                return {
                  name: label,
                  value: [point.x, point.mean],
                  symbol: symbol(marker),
                  itemStyle: { color: point.low === null ? paper : tint(colour), borderColor: tint(colour), borderWidth: 1.5 },
                  label: { show: true, ...placed[i], overflow: "truncate", color: ink, textBorderColor: paper, textBorderWidth: 2, formatter: () => label },
                  tooltip: {
                    formatter: () =>
                      bubble(label, [`${metricHeader(y)}: ${point.text} (${interval(point)}), n=${point.n}`, `${cost(x).header}: ${point.costText}`]),
                  },
                  open: open(point.row),
                };
              }),
            },
          ],
        },
        summary: `${metricHeader(y)} against ${cost(x).header}: ${points.length === 1 ? "one row" : `${points.length} rows`}`,
        head: ["Row", metricHeader(y), "95 % interval", "n", cost(x).header, "On the front"],
        numbers: points.map((point) => [
          button(rowOf(point.row).label, open(point.row), { class: "open", title: "Its runs" }),
          point.text,
          interval(point),
          String(point.n),
          point.costText,
          steps.some(([cheap, best]) => cheap === point.x && best === point.mean) ? "yes" : "no",
        ]),
      },
      `${x} ${y} ${xLog}`,
    );
  };
  across.addEventListener("change", draw);
  up.addEventListener("change", draw);
  panel.redraw(draw);
  return panel;
}
