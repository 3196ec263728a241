/** The dialog with one run, several runs, or runs side by side; its address leads back to it. */
import { curvesOfRun } from "./charts/curves";
import { copyButton } from "./copy";
import { check, find, folded, make, table } from "./dom";
import { pairs, shown, times } from "./format";
import { cost, metricHeader, model, on, runName, runOf } from "./model";
import type { Run } from "./types";

const MOST_COMPARED = 6;
type Entry = [name: string, value: string];

export const standing = (run: Run): string =>
  run.status +
  (run.place ? `, ${run.place}` : "") +
  (run.failures && run.status !== "failed" ? `, failed ${times(run.failures)}` : "");

function list(title: string, entries: Entry[], isOpen = false): HTMLElement {
  const block = folded(title);
  block.open = isOpen;
  const node = make("table");
  for (const [key, value] of entries) node.insertRow().append(make("th", { scope: "row" }, key), make("td", {}, value));
  block.append(node);
  return block;
}

const texts = (value: unknown): Entry[] => pairs(value).map(([key, inner]) => [key, shown(inner)]);
const metricsOf = (run: Run): Entry[] =>
  Object.entries(run.metrics).map(([key, value]) => [metricHeader(key), run.texts[key] ?? shown(value)]);
const costsOf = (run: Run): Entry[] => Object.entries(run.cost).map(([key, value]) => [cost(key).header, run.texts[key] ?? shown(value)]);
const environmentOf = (run: Run): Entry[] => [...texts(run.environment), ["data sha256", shown(run.data_sha256)]];

function runBody(id: string, heading: "h2" | "h3" = "h3", address = `${location.href.split("#")[0]}#run=${id}`): HTMLElement {
  const run = runOf(id);
  const body = make("div", { "data-run": id }, make(heading, {}, runName(id)));
  const facts: Entry[] = [["run", id], ["status", standing(run) + (run.stale.length ? ` (stale: ${run.stale.join(", ")})` : "")]];
  if (run.why) facts.push(["why", run.why]);
  facts.push(...metricsOf(run));
  if (run.chosen_epoch) facts.push(["chosen epoch", shown(run.chosen_epoch)]);
  if (run.wall_seconds) facts.push(["seconds", run.texts.wall_seconds ?? shown(run.wall_seconds)]);
  body.append(make("p", { class: "tools" }, copyButton("Copy run id", () => id), copyButton("Copy link", () => address)));
  body.append(list("Result", facts, true));
  if (run.curve) body.append(curvesOfRun(id));
  body.append(list("Spec", texts(run.spec)), list("Environment", environmentOf(run)), list("Cost", costsOf(run)));
  for (const attempt of run.attempts) body.append(list(`Attempt ${attempt.number}: ${attempt.outcome ?? "open"}`, texts(attempt)));
  if (model.data.left_out && run.status === "done") {
    const left = `Its curve, attempts and log are left out (${model.data.left_out}); they are in the store.`;
    body.append(make("p", { class: "hint" }, left));
  }
  if (run.log) {
    const block = folded("The end of its log", make("pre", { tabindex: 0 }, run.log));
    block.open = run.status !== "done";
    body.append(block);
  }
  return body;
}

/** Rows of a table with one column per run. Rows whose values differ are marked. */
function compared(ids: string[], entriesOf: (run: Run) => Entry[]): { row: string[]; differs: boolean }[] {
  const columns = ids.map((id) => new Map(entriesOf(runOf(id))));
  const keys = new Set(columns.flatMap((column) => [...column.keys()]));
  return [...keys].map((key) => {
    const values = columns.map((column) => column.get(key) ?? "none");
    return { row: [key, ...values], differs: new Set(values).size > 1 };
  });
}

function comparison(ids: string[]): HTMLElement {
  const body = make("div", { id: "comparison", class: "onlydiffering" });
  const only = check("Only what differs", true, (isOn) => body.classList.toggle("onlydiffering", isOn));
  body.append(make("p", { class: "tools" }, only));
  const rowSpecs: [string, (run: Run) => Entry[]][] = [
    ["Result", (run) => [["status", standing(run)], ...metricsOf(run), ["seconds", run.texts.wall_seconds ?? "n/a"]]],
    ["Spec", (run) => texts(run.spec)],
    ["Environment", environmentOf],
    ["Cost", costsOf],
  ];
  for (const [title, entriesOf] of rowSpecs) {
    const rows = compared(ids, entriesOf);
    const differing = rows.filter(({ differs }) => differs).length;
    const box = table([title, ...ids.map(runName)], rows.map(({ row }) => row), `${title}: ${differing} of ${rows.length} values differ`);
    [...(box.querySelector("tbody")?.rows ?? [])].forEach((row, number) => row.classList.toggle("same", !rows[number]?.differs));
    body.append(box);
  }
  return body;
}

const known = (ids: string[]): string[] => [...new Set(ids)].filter((id) => id in model.data.runs);

function open(title: string, address: string, content: HTMLElement[]): void {
  const dialog = find<HTMLDialogElement>("run");
  find("runname").textContent = title;
  find("runbody").replaceChildren(...content);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  if (location.hash.slice(1) !== address) history.pushState(null, "", `#${address}`);
}

export function openRuns(wanted: string[]): void {
  const ids = known(wanted);
  if (!ids.length) return;
  open(ids.length === 1 ? `Run ${ids[0]}` : `${ids.length} runs`, `run=${ids.join(",")}`, ids.map((id) => runBody(id)));
}

export function openComparison(wanted: string[]): void {
  const ids = known(wanted).slice(0, MOST_COMPARED);
  if (ids.length > 1) open(`Comparison of ${ids.length} runs`, `compare=${ids.join(",")}`, [comparison(ids)]);
}

export const canCompare = (count: number): boolean => count > 1 && count <= MOST_COMPARED;

/** Open what the address names: `#run=ID`, `#compare=ID,ID`. */
function follow(): void {
  const [kind, names = ""] = decodeURIComponent(location.hash.slice(1)).split("=");
  const ids = names.split(",").filter(Boolean);
  if (kind === "run") openRuns(ids);
  else if (kind === "compare") openComparison(ids);
  else if (find<HTMLDialogElement>("run").open) find<HTMLDialogElement>("run").close();
}

export function armViews(): void {
  find("run").addEventListener("close", () => {
    if (/^#(run|compare)=/.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
  });
  find("run").addEventListener("click", (event) => {
    if (event.target === find("run")) find<HTMLDialogElement>("run").close();
  });
  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);
  follow();
}

/** A page of one run alone. */
export function armRunPage(): void {
  on(["data"], () => {
    const ids = Object.keys(model.data.runs);
    const opened = [...document.querySelectorAll<HTMLDetailsElement>("#onerun details")].map((one) => one.open);
    const places = model.data.places ?? [];
    const links = places.flatMap(({ text, href }): (Node | string)[] => [make("a", { href }, text), "; "]).slice(0, -1);
    find("onerun").replaceChildren(
      ...(links.length ? [make("p", { class: "tools" }, "In ", ...links)] : []),
      ...ids.map((id) => runBody(id, "h2", location.href.split("#")[0] ?? "")),
    );
    const blocks = [...document.querySelectorAll<HTMLDetailsElement>("#onerun details")];
    if (blocks.length === opened.length) blocks.forEach((block, number) => (block.open = opened[number] ?? false));
    find("standing").textContent = ids.map((id) => standing(runOf(id))).join(", ");
  });
}
