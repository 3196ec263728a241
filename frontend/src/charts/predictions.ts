/** Figures of stored predictions: precision over recall, confusions, dots by class or size. */
import type { CustomSeriesRenderItem, SeriesOption } from "echarts/types/dist/shared";
import { find, make, scrolling } from "../dom";
import { end, extreme, shown } from "../format";
import { dashes, symbol } from "../looks";
import { model, on, rowOf } from "../model";
import { palette, tint } from "../theme";
import type { ConfusionFigure, DotsFigure, Figure, PrecisionFigure } from "../types";
import { openRuns } from "../views";
import { axis, bubble, type Drawing, padded, Panel } from "./panel";

type Numbers = (number | null)[];

const area = (low: Numbers, high: Numbers): CustomSeriesRenderItem => (params, api) => {
  if (params.dataIndexInside > 0) return null;
  const side = (values: Numbers) => values.flatMap((value, recall) => (value === null ? [] : [api.coord([recall, value])]));
  return { type: "polygon", shape: { points: [...side(high), ...side(low).reverse()] }, style: { fill: String(api.visual("color")), opacity: 0.15 } };
};

function precision(figure: PrecisionFigure): Drawing | string {
  const curves = figure.curves.filter(({ row }) => !model.hidden.has(row));
  if (!curves.length) return "No row is shown.";
  const series = curves.flatMap(({ row, mean, low, high }, number): SeriesOption[] => {
    const { label, colour, line } = rowOf(row);
    const data = mean.flatMap((value, recall) => (value === null ? [] : [[recall, value]]));
    const all: SeriesOption[] = [
      { type: "line", id: `line ${number}`, name: label, data, symbol: "none", itemStyle: { color: tint(colour) }, lineStyle: { color: tint(colour), width: 2, type: dashes(line) } },
    ];
    if (low.some((value) => value !== null)) {
      all.push({ type: "custom", id: `band ${number}`, renderItem: area(...([low, high].map((side) => side.map((value) => value && end(value, figure.up))) as [Numbers, Numbers])), silent: true, clip: true, itemStyle: { color: tint(colour) }, data, tooltip: { show: false } });
    }
    return all;
  });
  const at = (recall: number): string[] =>
    curves.flatMap(({ row, mean }) => (mean[recall] === null || mean[recall] === undefined ? [] : [`${rowOf(row).label}: ${shown(mean[recall])}`]));
  return {
    option: {
      xAxis: { ...axis(figure.across), min: 0, max: 100 } as object,
      yAxis: axis(figure.up, { isUp: true }),
      tooltip: {
        trigger: "axis",
        formatter: (params) => {
          const first = Array.isArray(params) ? params[0] : params;
          const recall = Number((first?.value as number[] | undefined)?.[0]);
          return bubble(`Recall ${recall} %`, at(recall));
        },
      },
      series,
    },
    summary: `${figure.title}: ${figure.up} against ${figure.across}`,
    head: ["Row", "Average precision", "At recall 25 %", "50 %", "75 %"],
    numbers: curves.map(({ row, average, mean }) => [rowOf(row).label, shown(average), ...[25, 50, 75].map((recall) => shown(mean[recall]))]),
  };
}

function confusion({ down, names, counts, title }: ConfusionFigure): HTMLElement {
  const table = make("table", { class: "matrix" });
  table.createCaption().textContent = `${title}: share of each row's images or boxes, in percent`;
  table.createTHead().insertRow().append(make("td"), ...names.map((name) => make("th", { scope: "col" }, name)));
  const body = table.createTBody();
  counts.forEach((line, i) => {
    const row = body.insertRow();
    const total = Math.max(1, line.reduce((a, b) => a + b, 0));
    row.append(make("th", { scope: "row" }, down[i] ?? ""));
    line.forEach((count, j) => {
      const share = (100 * count) / total;
      const isHole = names.length === down.length && names[j] === "missed" && i === down.length - 1;
      const shade = `background: color-mix(in srgb, var(--accent) ${Math.round(0.45 * share)}%, transparent)`;
      const text = !count ? "" : share < 0.5 ? "<1" : String(Math.round(share));
      row.append(make("td", isHole ? { class: "hole" } : { style: shade, title: `${count} of ${total}` }, text));
    });
  });
  return scrolling(table);
}

/** The bar of an interval: x from low to high at y. */
const bar: CustomSeriesRenderItem = (_, api) => {
  const [y, low, high] = [0, 1, 2].map((dimension) => Number(api.value(dimension))) as [number, number, number];
  const [from, to] = [api.coord([low, y]), api.coord([high, y])] as [[number, number], [number, number]];
  return { type: "line", shape: { x1: from[0], y1: from[1], x2: to[0], y2: to[1] }, style: { stroke: String(api.visual("color")), lineWidth: 1.5 } };
};

function dots({ groups, points, across, title }: DotsFigure): Drawing | string {
  const rows = model.data.rows.map(({ row }) => row).filter((row) => !model.hidden.has(row) && points.some((group) => row in group));
  if (!rows.length) return "No row is shown.";
  const { ink, paper, line } = palette();
  const found = points.flatMap((group, i) =>
    rows.flatMap((row, place) => {
      const values = group[row];
      return values ? [{ row, group: groups[i] ?? "", y: i + (place + 1) / (rows.length + 1), mid: values[0], low: values[1], high: values[2] }] : [];
    }),
  );
  const range = padded(extreme(found.flatMap(({ mid, low, high }) => [mid, end(low ?? mid, across), end(high ?? mid, across)])));
  const text = (point: (typeof found)[number]): string => (point.low === null ? "no interval" : `${shown(point.low)} to ${shown(point.high)}`);
  return {
    height: 80 + groups.length * (14 + 11 * rows.length),
    option: {
      grid: { left: 130, right: 20, top: 14, bottom: 48 },
      xAxis: axis(across, { range }),
      yAxis: {
        type: "value",
        inverse: true,
        min: 0,
        max: groups.length,
        interval: 1,
        axisLabel: { show: true, color: ink, width: 115, overflow: "truncate", verticalAlign: "top", padding: [6, 0, 0, 0], formatter: (value: number) => groups[value] ?? "" },
        splitLine: { lineStyle: { color: line } },
      },
      series: [
        {
          type: "custom",
          id: "bars",
          renderItem: bar,
          silent: true,
          clip: true,
          encode: { x: [1, 2], y: 0 },
          data: found.filter(({ low }) => low !== null).map(({ row, y, low, high }) => ({ value: [y, end(low ?? NaN, across), end(high ?? NaN, across)], itemStyle: { color: tint(rowOf(row).colour) } })),
        },
        {
          type: "scatter",
          id: "points",
          symbolSize: 10,
          data: found.map((point) => {
            const { label, colour, marker } = rowOf(point.row);
            return {
              name: `${label}, ${point.group}`,
              value: [point.mid, point.y],
              symbol: symbol(marker),
              itemStyle: { color: point.low === null ? paper : tint(colour), borderColor: tint(colour), borderWidth: 1.5 },
              tooltip: { formatter: () => bubble(`${label}, ${point.group}`, [`${across}: ${shown(point.mid)} (${text(point)})`]) },
              open: () => openRuns(model.idsOf.get(point.row) ?? []),
            };
          }),
        },
      ],
    },
    summary: `${title}: ${across} by group`,
    head: ["Group", "Row", across, "Interval"],
    numbers: found.map((point) => [point.group, rowOf(point.row).label, shown(point.mid), text(point)]),
  };
}

/** A frame for each figure, kept as long as there is one of its kind at its place. */
export function predictions(): void {
  const panels = new Map<string, Panel>();
  const node = (figure: Figure, number: number): HTMLElement => {
    const caption = make("p", { class: "hint" }, figure.caption);
    if (figure.kind === "confusion") return make("figure", {}, make("figcaption", {}, make("h3", {}, figure.title), caption), confusion(figure));
    const key = `${number} ${figure.kind} ${figure.title}`;
    const panel = panels.get(key) ?? new Panel("", figure.title, figure.caption);
    panels.set(key, panel);
    return panel.node;
  };
  on(["data", "rows", "theme"], () => {
    const { figures } = model.data;
    document.querySelectorAll("#charts > .prediction").forEach((old) => old.remove());
    figures.forEach((figure, number) => {
      find("charts").append(make("div", { class: "prediction" }, node(figure, number)));
      const panel = panels.get(`${number} ${figure.kind} ${figure.title}`);
      if (figure.kind === "precision_recall") panel?.show(precision(figure));
      else if (figure.kind !== "confusion") panel?.show(dots(figure));
    });
  });
}
