/** Parallel coordinates: one line per finished run across the options in which the runs differ, and the metric. */
import { extreme, pairs, shown } from "../format";
import { labels, metricHeader, model, on, rowOf, runName } from "../model";
import { palette, tint } from "../theme";
import { Panel } from "./panel";
import { differingKeys } from "../runs";

const MOST_AXES = 8;
const MOST_LINES = 1000;
const HINT =
  "One line per finished run across the options in which the runs differ. Drag along an axis to keep only the runs that pass there; " +
  "click the axis to keep all.";

type Values = (number | string | null)[];

function values(ids: string[], key: string): Values {
  return ids.map((id) => {
    const value = new Map(pairs(model.data.runs[id]?.spec)).get(key);
    return typeof value === "number" ? value : value === undefined || value === null ? null : shown(value);
  });
}

const isNumeric = (column: Values): boolean => column.every((value) => typeof value === "number");
const word = (value: number | string | null): string => (value === null ? "none" : String(value));

/** A scale for numbers, logarithmic over two decades or more; names in their order otherwise. */
function scale(column: Values): object {
  if (isNumeric(column)) {
    const [low, high] = extreme(column as number[]);
    return low > 0 && high / low >= 100 ? { type: "log" } : { type: "value", scale: true };
  }
  const words = [...new Set(column.map(word))];
  const collator = new Intl.Collator("en", { numeric: true });
  return { type: "category", data: words.sort((a, b) => Number(a === "none") - Number(b === "none") || collator.compare(a, b)) };
}

/** The last two words of a key: enough to know it by. */
const short = (key: string): string => key.split(".").slice(-2).join(".");

export function parallel(): Panel {
  const panel = new Panel("parallel", "Options and results", HINT, false);
  const draw = (): void => {
    const { data } = model;
    const done = Object.keys(data.runs).filter((id) => {
      const run = data.runs[id];
      return run && data.primary in run.metrics && run.variants.some((row) => !model.hidden.has(row));
    });
    const ids = done.slice(0, MOST_LINES);
    const keys = differingKeys(Object.values(data.runs).map((run) => run.spec)).filter((key) => key !== "seed");
    panel.node.hidden = keys.length < 2;
    if (panel.node.hidden) return;
    if (!ids.length) return panel.show(model.hidden.size ? "No row is shown." : "Nothing to draw yet.");
    const axes = keys.slice(0, MOST_AXES);
    const { ink, soft, line } = palette();
    const columns = axes.map((key) => values(ids, key));
    const scores = ids.map((id) => data.runs[id]?.metrics[data.primary] ?? null);
    const text = { color: ink, fontSize: 12 };
    const parallelAxis = [...axes.map((key, dim) => [short(key), columns[dim] ?? []] as const), [metricHeader(data.primary), scores] as const].map(
      ([name, column], dim) => ({
        dim,
        name,
        nameTextStyle: { ...text, width: 130, overflow: "truncate" },
        axisLabel: text,
        axisLine: { lineStyle: { color: soft, width: 1 } },
        areaSelectStyle: { color: line, opacity: 0.6 },
        ...scale(column),
      }),
    );
    const cell = (column: Values, i: number): number | string => {
      const value = column[i] ?? null;
      return isNumeric(column) ? (value as number) : word(value);
    };
    panel.show(
      {
        height: 380,
        option: {
          parallel: { left: 80, right: 90, top: 40, bottom: 24 },
          parallelAxis: parallelAxis as object[],
          tooltip: { trigger: "item" },
          series: [
            {
              type: "parallel",
              id: "runs",
              smooth: false,
              inactiveOpacity: 0.05,
              activeOpacity: 0.9,
              data: ids.map((id, i) => ({
                name: runName(id),
                value: [...columns, scores].map((column) => cell(column, i)),
                lineStyle: { color: tint(rowOf(data.runs[id]?.variants.find((row) => !model.hidden.has(row)) ?? "").colour), width: 1.5, opacity: 0.7 },
              })) as object[],
            },
          ],
        },
        summary: `${metricHeader(data.primary)} of ${ids.length} runs over ${axes.length} options${keys.length > axes.length ? ` of ${keys.length}` : ""}`,
        head: ["Run", ...axes, metricHeader(data.primary)],
        numbers: ids.map((id, i) => [
          `${labels(data.runs[id] as never)}, seed ${data.runs[id]?.seed}`,
          ...columns.map((column) => String(cell(column, i))),
          data.runs[id]?.texts[data.primary] ?? "n/a",
        ]),
      },
      axes.join(" "),
    );
  };
  on(["data", "rows", "theme"], draw);
  return panel;
}
