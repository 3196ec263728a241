/** Curves over epochs: means of rows with bands, single runs, or the chosen runs laid over each other. */
import type { CustomSeriesRenderItem, LineSeriesOption, SeriesOption } from "echarts/types/dist/shared";
import { check, fill, find, make } from "../dom";
import { extreme, mean, shown } from "../format";
import { dashes } from "../looks";
import { columnLabel, model, on, rowOf, runName, runOf, shownRows } from "../model";
import { palette, tint } from "../theme";
import type { Line } from "../types";
import { axis, bubble, type Cell, type Drawing, Panel } from "./panel";

type Pair = [epoch: number, value: number];
interface Trace {
  name: string;
  column: string;
  colour: string;
  line: Line;
  points: Pair[];
  band: [epoch: number, low: number, high: number][];
  count: number;
}

const MOST_HOVERED = 20;
const SPLIT = /^(train|val|test)_/;
const LINES: Line[] = ["-", "--", ":", "-."];
const RUN_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000"];
const HINT =
  "One line per row: the mean over its runs at each epoch; the band is from their lowest to their highest. Choose runs in the table " +
  "below to lay their own curves over each other. Drag to zoom.";

/** What a column measures, without its split: columns of one measure share an axis. */
const measure = (column: string): string => column.replace(SPLIT, "");

/** Exponential moving average without the bias of its start; `weight` is that of the past. */
export function smoothed(points: Pair[], weight: number): Pair[] {
  let [sum, norm] = [0, 0];
  return points.map(([epoch, value]) => {
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return [epoch, sum / norm];
  });
}

function ofRun(id: string, column: string): Pair[] {
  const { curve } = runOf(id);
  const values = curve?.[column] ?? [];
  return (curve?.epoch ?? []).flatMap((epoch, i): Pair[] => {
    const value = values[i];
    return epoch === null || value === null || value === undefined ? [] : [[epoch, value]];
  });
}

function rowTrace(row: string, column: string): Trace {
  const byEpoch = new Map<number, number[]>();
  const ids = (model.idsOf.get(row) ?? []).filter((id) => runOf(id).curve?.[column]);
  for (const id of ids) for (const [epoch, value] of ofRun(id, column)) byEpoch.set(epoch, [...(byEpoch.get(epoch) ?? []), value]);
  const sorted = [...byEpoch].sort(([a], [b]) => a - b);
  const { label, colour, line } = rowOf(row);
  const band = ids.length > 1 ? sorted.map(([epoch, values]): [number, number, number] => [epoch, ...extreme(values)]) : [];
  return { name: label, column, colour, line, points: sorted.map(([epoch, values]) => [epoch, mean(values)]), band, count: ids.length };
}

function runTrace(id: string, column: string, colour: string, line: Line): Trace {
  return { name: runName(id), column, colour, line, points: ofRun(id, column), band: [], count: 1 };
}

const band = (points: Trace["band"]): CustomSeriesRenderItem => (params, api) => {
  if (params.dataIndexInside > 0) return null; // one polygon for all
  const side = (bound: 1 | 2) => points.map((point) => api.coord([point[0], point[bound]]));
  return { type: "polygon", shape: { points: [...side(2), ...side(1).reverse()] }, style: { fill: String(api.visual("color")), opacity: 0.15 } };
};

function series(trace: Trace, number: number, yAxisIndex: number, weight: number): SeriesOption[] {
  const colour = tint(trace.colour);
  const common: LineSeriesOption = { type: "line", yAxisIndex, symbol: trace.points.length > 1 ? "none" : "circle", silent: true };
  const all: SeriesOption[] = [];
  if (trace.band.length > 1 && weight === 0) {
    all.push({
      type: "custom",
      id: `band ${number}`,
      yAxisIndex,
      renderItem: band(trace.band),
      silent: true,
      clip: true,
      encode: { x: 0, y: [1, 2] },
      itemStyle: { color: colour },
      data: trace.band,
      tooltip: { show: false },
    });
  }
  if (weight > 0) {
    all.push({ ...common, id: `raw ${number}`, data: trace.points, lineStyle: { color: colour, width: 1, opacity: 0.25 } });
  }
  all.push({
    ...common,
    id: `line ${number}`,
    name: trace.name,
    data: weight > 0 ? smoothed(trace.points, weight) : trace.points,
    itemStyle: { color: colour },
    lineStyle: { color: colour, width: 2, type: dashes(trace.line) },
  });
  return all;
}

/** The value of a curve, as short as the table's numbers where it is of their kind. */
function valueText(column: string, value: number): string {
  return measure(column) in model.data.metrics ? value.toFixed(model.data.digits).replace(/^-(?=[0.]*$)/, "") : shown(Number(value.toPrecision(5)));
}

interface Setting {
  /** Whether the key names each line; else it names the columns, if there are several. */
  isKeyed: boolean;
  columns: string[];
  isLog: boolean;
  weight: number;
}

function drawing(traces: Trace[], { columns, isKeyed, isLog, weight }: Setting): Drawing {
  const measures = [...new Set(columns.map(measure))];
  const { soft } = palette();
  const full = (trace: Trace): string => (columns.length > 1 && trace.name !== columnLabel(trace.column) ? `${trace.name}, ${columnLabel(trace.column)}` : trace.name);
  const at = (trace: Trace, epoch: number): number | undefined =>
    (weight > 0 ? smoothed(trace.points, weight) : trace.points).find(([own]) => own === epoch)?.[1];
  const hover = (epoch: number): HTMLElement => {
    const values = traces.flatMap((trace) => {
      const value = at(trace, epoch);
      return value === undefined ? [] : [{ trace, value }];
    });
    const lines = columns.flatMap((column) => {
      const own = values.filter(({ trace }) => trace.column === column).sort((a, b) => b.value - a.value);
      const texts = own.map(({ value }) => valueText(column, value));
      if (own.length > 1 && new Set(texts).size === 1) return [`${columnLabel(column)}: ${texts[0]} in all`];
      return own.slice(0, MOST_HOVERED).map(({ trace }, i) => `${full(trace)}: ${texts[i]}`);
    });
    return bubble(`Epoch ${epoch}`, lines);
  };
  const ups = measures.map((one, number) => {
    const own = columns.filter((column) => measure(column) === one);
    const name = own.map(columnLabel).join(", ");
    return { ...axis(name, { isLog, isUp: true }), position: number ? ("right" as const) : ("left" as const), ...(number ? { splitLine: { show: false } } : {}) };
  });
  const [first, end] = extreme(traces.flatMap((trace) => trace.points.map(([epoch]) => epoch)));
  const last = (trace: Trace): Cell[] => {
    const end = trace.points.at(-1);
    const values = trace.points.map(([, value]) => value);
    const [low, high] = extreme(values);
    const cells = [end?.[1], low, high].map((value) => (value === undefined ? "n/a" : valueText(trace.column, value)));
    return [full(trace), String(end?.[0] ?? "n/a"), ...cells];
  };
  return {
    option: {
      grid: { left: 66, right: measures.length > 1 ? 66 : 20, top: 14, bottom: 48 },
      xAxis: { ...axis("Epoch", { ends: first < end }), minInterval: 1, ...(first < end ? { min: "dataMin", max: "dataMax" } : { min: first - 1, max: first + 1 }) } as object,
      yAxis: ups,
      tooltip: {
        trigger: "axis",
        axisPointer: { type: "line", lineStyle: { color: soft } },
        formatter: (params) => {
          const first = Array.isArray(params) ? params[0] : params;
          return hover(Number((first?.value as Pair | undefined)?.[0]));
        },
      },
      series: traces.flatMap((trace, number) => series(trace, number, measures.indexOf(measure(trace.column)), weight)),
    },
    summary: `${columns.map(columnLabel).join(" and ")} over epochs: ${traces.length === 1 ? "one line" : `${traces.length} lines`}`,
    head: ["Line", "Last epoch", "Value there", "Lowest", "Highest"],
    numbers: traces.map(last),
    key: isKeyed
      ? traces.map((trace) => ({ colour: trace.colour, line: trace.line, text: full(trace) }))
      : columns.length > 1
        ? columns.map((column, i) => ({ colour: "#000000", line: LINES[i % LINES.length] ?? "-", text: columnLabel(column) }))
        : [],
  };
}

const columnsOf = (ids: Iterable<string>): string[] =>
  [...new Set([...ids].flatMap((id) => Object.keys(runOf(id).curve ?? {})))].filter((key) => key !== "epoch");

/** The column to begin with: the primary metric, on held-out images where there are some. */
function usual(columns: string[]): string {
  const primary = ["test", "val", "train"].map((split) => `${split}_${model.data.primary}`);
  return [...primary, ...columns.filter((key) => measure(key) === model.data.primary), ...columns].find((key) => columns.includes(key)) ?? "";
}

/** The curve of one run in its dialog. */
export function curvesOfRun(id: string): HTMLElement {
  const columns = columnsOf([id]);
  const first = usual(columns);
  const own = columns.filter((column) => measure(column) === measure(first));
  if (ofRun(id, first).length < 2) return make("p", { class: "hint" }, "A curve needs two epochs.");
  const panel = new Panel("", "Curve", "", false);
  const { colour } = rowOf(runOf(id).variants[0] ?? "");
  const traces = own.map((column, number) => ({ ...runTrace(id, column, colour, LINES[number % LINES.length] ?? "-"), name: columnLabel(column) }));
  requestAnimationFrame(() => {
    const made = drawing(traces, { columns: own, isKeyed: own.length > 1, isLog: false, weight: 0 });
    panel.show({ ...made, height: 260 });
  });
  return panel.node;
}

export function curves(): Panel {
  const panel = new Panel("curves", "Curves", HINT);
  const selected = new Set<string>();
  const setting = { isLog: false, weight: 0 };
  const lines = make("select", { id: "lines" });
  const boxes = make("div", { class: "tools", role: "group", "aria-label": "Columns of the curves" });
  const slider = make("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: 0, id: "smoothing" });
  const told = make("output", {}, "0");
  slider.addEventListener("input", () => {
    setting.weight = Number(slider.value);
    told.textContent = slider.value;
    draw();
  });
  const log = check("Log axis", false, (isOn) => {
    setting.isLog = isOn;
    draw();
  });
  panel.controls.append(make("label", {}, "Lines ", lines), boxes, make("label", {}, "Smoothing ", slider, " ", told), log);

  const tracesOf = (column: string, line: Line | null): Trace[] => {
    if (lines.value === "rows") return shownRows().map(({ row }) => ({ ...rowTrace(row, column), ...(line && { line }) }));
    if (lines.value === "chosen") {
      return [...model.chosen].map((id, i) => runTrace(id, column, RUN_COLOURS[i % RUN_COLOURS.length] ?? "", line ?? LINES[Math.floor(i / RUN_COLOURS.length) % 4] ?? "-"));
    }
    return shownRows().flatMap(({ row, colour, line: own }) =>
      (model.idsOf.get(row) ?? []).filter((id) => runOf(id).curve).map((id) => runTrace(id, column, colour, line ?? own)),
    );
  };
  const drawBoxes = (columns: string[]): void => {
    const measures = new Set([...selected].map(measure));
    boxes.replaceChildren(
      ...columns.map((column) => {
        const label = check(columnLabel(column), selected.has(column), (isOn) => {
          if (isOn) selected.add(column);
          else if (selected.size > 1) selected.delete(column);
          draw();
          boxes.querySelector<HTMLInputElement>(`[data-column="${CSS.escape(column)}"]`)?.focus();
        });
        const box = label.firstElementChild as HTMLInputElement;
        box.dataset.column = column;
        box.disabled = !selected.has(column) && measures.size > 1 && !measures.has(measure(column));
        if (box.disabled) label.title = "A plot has two axes: take another column away first";
        return label;
      }),
    );
  };
  const draw = (): void => {
    const columns = columnsOf(Object.keys(model.data.runs));
    for (const column of selected) if (!columns.includes(column)) selected.delete(column);
    if (!selected.size && columns.length) selected.add(usual(columns));
    fill(lines, [["rows", "means of rows"], ["runs", "single runs"], ["chosen", `chosen runs (${model.chosen.size})`]], "rows");
    drawBoxes(columns);
    if (model.data.left_out) return panel.show(`Curves are left out: ${model.data.left_out}.`);
    if (lines.value === "chosen" && !model.chosen.size) return panel.show("Choose runs in the table of runs below.");
    const drawn = columns.filter((column) => selected.has(column));
    const traces = drawn.flatMap((column, i) => tracesOf(column, drawn.length > 1 ? (LINES[i % LINES.length] ?? "-") : null)).filter((trace) => trace.points.length);
    if (!traces.length) return panel.show(model.hidden.size ? "No row is shown." : "Nothing to draw yet.");
    const canLog = traces.every((trace) => trace.points.every(([, value]) => value > 0));
    const isLog = setting.isLog && canLog;
    panel.show(drawing(traces, { columns: drawn, isKeyed: lines.value === "chosen", isLog, weight: setting.weight }), `${drawn} ${isLog}`);
  };
  lines.addEventListener("change", draw);
  panel.redraw(draw);
  on(["chosen"], draw);
  return panel;
}

/** Show the chosen runs' curves and go there. */
export function showChosenCurves(): void {
  const lines = find<HTMLSelectElement>("lines");
  lines.value = "chosen";
  lines.dispatchEvent(new Event("change"));
  find("curves").scrollIntoView({ behavior: "smooth" });
  lines.focus({ preventScroll: true });
}
