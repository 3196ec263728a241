/** The table of all runs: sorted, filtered, chosen to be overlaid or compared. */
import { check, fill, find, make } from "./dom";
import { pairs, shown } from "./format";
import { armHeaders, arranged, type Order, orderOf, type Value } from "./grid";
import { choose, cost, labels, metricHeader, model, on, rowOf, runOf } from "./model";
import { matches } from "./tables";
import type { Run } from "./types";
import { canCompare, openComparison, openRuns, standing } from "./views";

const MOST_ROWS = 500; // at first: more take a browser seconds
let isWhole = false;

interface Column {
  title: string;
  value: (run: Run, id: string) => Value;
  text: (run: Run, id: string) => string;
}

/** Keys of further columns that the reader asked for. */
const wanted = new Set<string>();

const numeric = (title: string, key: string, value: (run: Run) => number | undefined | null): Column => ({
  title,
  value: (run) => value(run) ?? null,
  text: (run) => run.texts[key] ?? shown(value(run)),
});

/** Columns that the reader may add: costs, and what differs between the specs. */
function further(): Map<string, Column> {
  const columns = new Map<string, Column>();
  const runs = Object.values(model.data.runs);
  const keys = new Set(runs.flatMap((run) => Object.keys(run.cost)));
  for (const key of keys) columns.set(`cost.${key}`, numeric(cost(key).header, key, (run) => run.cost[key]));
  for (const key of differingKeys(runs.map((run) => run.spec))) {
    const value = (run: Run): Value => {
      const found = new Map(pairs(run.spec)).get(key);
      return typeof found === "number" ? found : found === undefined || found === null ? null : shown(found);
    };
    if (key !== "seed") columns.set(key, { title: key, value, text: (run) => shown(value(run)) });
  }
  return columns;
}

/** Dotted keys in which specs differ. */
export function differingKeys(specs: Record<string, unknown>[]): string[] {
  const found = new Map<string, Set<string>>();
  const all = specs.map((spec) => new Map(pairs(spec)));
  for (const spec of all) for (const key of spec.keys()) found.set(key, new Set());
  for (const [key, values] of found) for (const spec of all) values.add(JSON.stringify(spec.get(key) ?? null));
  return [...found].filter(([, values]) => values.size > 1).map(([key]) => key);
}

/** The metrics that some run has; all of them before the first one. */
function measured(): string[] {
  const runs = Object.values(model.data.runs);
  const first = (key: string): number => (key === model.data.primary ? 0 : 1);
  const all = Object.keys(model.data.metrics).sort((a, b) => first(a) - first(b));
  const found = all.filter((key) => runs.some((run) => key in run.metrics));
  return found.length ? found : all;
}

function columns(): Column[] {
  const more = wanted.size ? further() : new Map<string, Column>();
  return [
    { title: "Variant", value: labels, text: labels },
    { title: "Seed", value: (run) => run.seed, text: (run) => shown(run.seed) },
    { title: "Status", value: standingText, text: standingText },
    ...measured().map((key) => numeric(metricHeader(key), key, (run) => run.metrics[key])),
    ...[...wanted].flatMap((key) => more.get(key) ?? []),
    numeric("Seconds", "wall_seconds", (run) => run.wall_seconds),
    { title: "Run", value: (_, id) => id, text: (_, id) => id },
  ];
}

const standingText = (run: Run): string => standing(run) + (run.stale.length ? ", stale" : "");

function line(id: string, all: Column[]): HTMLTableRowElement {
  const run = runOf(id);
  const row = make("tr");
  all.forEach((column, number) => {
    const text = column.text(run, id);
    if (number === 0) {
      const box = make("input", { type: "checkbox", "data-choose": id, "aria-label": `Choose ${text}, seed ${run.seed}` });
      box.checked = model.chosen.has(id);
      box.addEventListener("change", () => choose([id], box.checked));
      row.append(make("th", { scope: "row" }, box, " ", text));
    } else if (column.title === "Run") {
      const open = make("button", { type: "button", "data-open": id }, id);
      open.addEventListener("click", () => openRuns([id]));
      row.append(make("td", {}, open));
    } else if (column.title === "Status") row.append(make("td", { class: run.status }, text));
    else row.append(make("td", column.value(run, id) === null ? { class: "hole" } : {}, text));
  });
  return row;
}

function isWanted(run: Run): boolean {
  const state = find<HTMLSelectElement>("state").value;
  if (state === "stale") return run.stale.length > 0;
  if (state === "failed before") return run.status !== "failed" && run.failures > 0;
  return state === "all" || run.status === state;
}

export function drawRuns(): void {
  const node = find<HTMLTableElement>("runtable");
  const all = columns();
  const matching = new Set([...model.rows.values()].filter(({ row, label }) => matches([row, label])).map(({ row }) => row));
  const keeps = (id: string): boolean => isWanted(runOf(id)) && runOf(id).variants.some((row) => matching.has(row));
  const place = (id: string): number => rowOf(runOf(id).variants[0] ?? "").place;
  const values = [...all.map(({ value }) => (id: string) => value(runOf(id), id)), place, (id: string) => runOf(id).seed];
  const usual: Order[] = [all.length, all.length + 1].map((column) => ({ column, way: "ascending" }));
  const refill = (order?: Order): void => {
    const ids = arranged(Object.keys(model.data.runs), values, order ? [order, ...usual] : usual, keeps);
    const drawn = isWhole ? ids : ids.slice(0, MOST_ROWS);
    node.tBodies[0]?.replaceChildren(...drawn.map((id) => line(id, all)));
    find("more").hidden = drawn.length === ids.length;
    find("more").textContent = `Show all ${ids.length.toLocaleString("en")}`;
  };
  node.tHead?.replaceChildren(make("tr", {}, ...all.map(({ title }) => make("th", { scope: "col" }, title))));
  if ((orderOf("runs")?.column ?? Infinity) >= all.length) refill();
  armHeaders(node, "runs", refill);
}

/** Count the runs by status, in words. */
function tell(): void {
  const runs = Object.values(model.data.runs);
  const count = (holds: (run: Run) => boolean): number => runs.filter(holds).length;
  const states = [...new Set(runs.map((run) => run.status))].sort();
  const before = count((run) => run.failures > 0 && run.status === "pending");
  const stale = count((run) => run.stale.length > 0);
  const parts = states.map((state) => {
    const again = state === "pending" && before ? ` (${before} failed before)` : "";
    return `${count((run) => run.status === state)} ${state}${again}`;
  });
  find("standing").textContent = `${parts.join(", ")}${stale ? `, ${stale} stale` : ""} of ${runs.length} runs`;
  const again = runs.some((run) => run.failures && run.status !== "failed");
  const options = ["all", ...states, ...(again ? ["failed before"] : []), ...(stale ? ["stale"] : [])];
  fill(find("state"), options.map((state) => [state, state]), "all");
}

function drawChoices(): void {
  const boxes = [...further()].map(([key, { title }]) =>
    check(title, wanted.has(key), (isOn) => {
      if (isOn) wanted.add(key);
      else wanted.delete(key);
      drawRuns();
    }),
  );
  find("columns").replaceChildren(...boxes);
}

function showChosen(): void {
  const { size } = model.chosen;
  find<HTMLButtonElement>("overlay").disabled = size === 0;
  find<HTMLButtonElement>("compare").disabled = !canCompare(size);
  find<HTMLButtonElement>("unchoose").disabled = size === 0;
  for (const box of document.querySelectorAll<HTMLInputElement>("#runtable input[data-choose]")) {
    box.checked = model.chosen.has(box.dataset.choose ?? "");
  }
}

export function armRuns(showCurves: () => void): void {
  find("more").addEventListener("click", () => {
    isWhole = true;
    drawRuns();
  });
  find("state").addEventListener("change", drawRuns);
  find("overlay").addEventListener("click", showCurves);
  find("compare").addEventListener("click", () => openComparison([...model.chosen]));
  find("unchoose").addEventListener("click", () => choose([...model.chosen], false));
  on(["data"], () => {
    tell();
    drawRuns();
    showChosen();
    drawChoices();
  });
  on(["chosen"], showChosen);
}
