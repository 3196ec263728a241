/** Parallel coordinates: one line per finished run across the options in which the runs differ, and the metric. */
import { pairs, shown } from "../format";
import { labels, metricHeader, model, on, rowOf, runName, runOf } from "../model";
import { differingKeys } from "../runs";
import { tint } from "../theme";
import { Panel } from "./panel";
import { type Axis, cell, showParallel, type Values } from "./parallel_axes";

const MOST_AXES = 8;
const MOST_LINES = 1000;
const HINT =
  "One line per finished run across the options in which the runs differ. Drag along an axis to keep only the runs that pass there; " +
  "click the axis to keep all.";

function values(ids: string[], key: string): Values {
  return ids.map((id) => {
    const value = new Map(pairs(model.data.runs[id]?.spec)).get(key);
    return typeof value === "number" ? value : value === undefined || value === null ? null : shown(value);
  });
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
    const kept = keys.slice(0, MOST_AXES);
    const options: Axis[] = kept.map((key) => ({ name: short(key), values: values(ids, key) }));
    const result: Axis = { name: metricHeader(data.primary), values: ids.map((id) => data.runs[id]?.metrics[data.primary] ?? null) };
    const items = ids.map((id) => ({
      name: runName(id),
      colour: tint(rowOf(runOf(id).variants.find((row) => !model.hidden.has(row)) ?? "").colour),
    }));
    const rows = ids.map((id, i) => [
      `${labels(runOf(id))}, seed ${runOf(id).seed}`,
      ...options.map((axis) => String(cell(axis, i))),
      runOf(id).texts[data.primary] ?? "n/a",
    ]);
    const summary = `${result.name} of ${ids.length} runs over ${kept.length} options${keys.length > kept.length ? ` of ${keys.length}` : ""}`;
    showParallel(panel, items, [...options, result], summary, { head: ["Run", ...kept, result.name], rows });
  };
  on(["data", "rows", "theme"], draw);
  return panel;
}
