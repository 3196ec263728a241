/** The page's data, and what the reader chose. Views draw themselves again when something changes. */
import { find } from "./dom";
import type { Cost, PageData, Row, Run } from "./types";

export type Change = "data" | "rows" | "chosen" | "theme";
type PlacedRow = Row & { place: number };

const observers: [Change[], () => void][] = [];

/** The page's data as it came: of a report, or of another kind of page. */
export const raw: { data: unknown } = { data: JSON.parse(find("data").textContent ?? "") };
const hasRuns = ["report", "run"].includes(document.body.dataset.kind ?? "report");

export const model = {
  data: raw.data as PageData,
  /** Rows by name, hidden rows' runs too: looked up once, since there may be thousands. */
  rows: new Map<string, PlacedRow>(),
  idsOf: new Map<string, string[]>(),
  /** Rows that the plots leave out. */
  hidden: new Set<string>(),
  /** Runs to overlay or compare, in the order of the choice. */
  chosen: new Set<string>(),
};

export function on(changes: Change[], view: () => void): void {
  observers.push([changes, view]);
}

export function replaceData(data: unknown): void {
  raw.data = data;
  model.data = data as PageData;
}

export function changed(change: Change): void {
  if (change === "data" && hasRuns) index();
  for (const [changes, view] of observers) if (changes.includes(change)) view();
}

function index(): void {
  const { data } = model;
  model.rows = new Map([...data.rows, ...data.others].map((row, place) => [row.row, { ...row, place }]));
  model.idsOf = new Map([...model.rows.keys()].map((row) => [row, []]));
  for (const [id, run] of Object.entries(data.runs)) for (const row of run.variants) model.idsOf.get(row)?.push(id);
  for (const id of model.chosen) if (!(id in data.runs)) model.chosen.delete(id);
}

export function rowOf(name: string): PlacedRow {
  const row = model.rows.get(name);
  if (!row) throw new Error(`no row is named ${name}`);
  return row;
}

export function runOf(id: string): Run {
  const run = model.data.runs[id];
  if (!run) throw new Error(`the page has no run ${id}`);
  return run;
}

export const shownRows = (): Row[] => model.data.rows.filter(({ row }) => !model.hidden.has(row));
export const labels = (run: Run): string => run.variants.map((row) => rowOf(row).label).join(", ");
export const runName = (id: string): string => `${labels(runOf(id))}, seed ${runOf(id).seed}`;
export const metricHeader = (key: string): string => model.data.metrics[key]?.header ?? key;
export const columnLabel = (key: string): string => model.data.columns[key] ?? key.replaceAll("_", " ");

export function cost(key: string): Cost {
  if (key === "wall_seconds") return { label: "Seconds", header: "Training time (s)", scale: 1 };
  const label = key.replaceAll("_", " ");
  return model.data.costs[key] ?? { label, header: label, scale: 1 };
}

export function choose(ids: Iterable<string>, isChosen: boolean): void {
  for (const id of ids) if (isChosen) model.chosen.add(id); else model.chosen.delete(id);
  changed("chosen");
}
