/**
 * The report's tables. Python prints them, so that the page has the digits of every other format; here, headers
 * sort within each group of rows, the filter hides rows, cells open their runs, and buttons copy.
 */
import { copyButton } from "./copy";
import { find, folded, make, scrolling } from "./dom";
import { armHeaders, arranged, type Order, type Value } from "./grid";
import { model, on } from "./model";
import { openRuns } from "./views";

interface Line {
  row: HTMLTableRowElement;
  body: HTMLTableSectionElement;
  group: number;
}

const groupCell = (body: HTMLTableSectionElement) => body.querySelector<HTMLTableCellElement>("th[scope=rowgroup]");
const nameCell = (row: HTMLTableRowElement) => row.querySelector<HTMLTableCellElement>("th[scope=row]");
const reportTables = () => document.querySelectorAll<HTMLTableElement>("table.report");
const idsIn = (node: HTMLElement) => [node.dataset.runs, node.dataset.baselineRuns].flatMap((text) => (text || "").split(" "));

/** A cell's number or text. `fromEnd` counts columns from the last, since a group's name is in one row only. */
function worth(row: HTMLTableRowElement, fromEnd: number): Value {
  const cell = row.cells[row.cells.length - fromEnd];
  const text = cell?.dataset.value ?? cell?.textContent ?? "";
  const number = Number(text);
  return text.trim() === "" || cell?.classList.contains("hole") ? null : Number.isNaN(number) ? text : number;
}

/** Let a group's name stand in its first visible row and span the visible ones: else columns would move. */
function placeGroups(table: HTMLTableElement): void {
  for (const body of table.tBodies) {
    const group = groupCell(body);
    const visible = [...body.rows].filter((row) => !row.hidden);
    if (!group || !visible[0]) continue;
    group.rowSpan = visible.length;
    visible[0].prepend(group);
  }
}

function sortBy(table: HTMLTableElement, order: Order): void {
  const columns = table.tHead?.rows[0]?.cells.length ?? 0;
  const bodies = [...table.tBodies];
  const isGrouped = bodies[0] !== undefined && groupCell(bodies[0]) !== null;
  const lines: Line[] = bodies.flatMap((body, group) => [...body.rows].map((row) => ({ row, body, group })));
  const values = Array.from({ length: columns }, (_, column) => (line: Line): Value => {
    if (!isGrouped || column > 0) return worth(line.row, columns - column);
    const text = groupCell(line.body)?.textContent?.trim() ?? "";
    return text === "" ? null : Number.isNaN(Number(text)) ? text : Number(text);
  });
  const byGroup: Order = { column: columns, way: "ascending" };
  const orders = isGrouped && order.column > 0 ? [byGroup, order] : [order, byGroup];
  const sorted = arranged(lines, [...values, (line) => line.group], orders);
  for (const body of new Set(sorted.map((line) => line.body))) table.append(body);
  for (const { row, body } of sorted) body.append(row);
  placeGroups(table);
}

/** Wrap a cell's content in a button that opens runs. */
function arm(cell: HTMLElement, ids: string[], title: string): void {
  const open = make("button", { type: "button", class: "open", title });
  open.append(...cell.childNodes);
  open.addEventListener("click", () => openRuns(ids));
  cell.append(open);
}

function copyButtons(name: string): HTMLElement {
  const text = (format: "latex" | "markdown" | "csv") => () => model.data.tables.find((table) => table.name === name)?.[format] ?? "";
  const tools = make("div", { class: "tools copy" });
  tools.append(copyButton("Copy LaTeX", text("latex")), copyButton("Copy Markdown", text("markdown")), copyButton("Copy CSV", text("csv")));
  return tools;
}

function armTable(table: HTMLTableElement): void {
  const box = table.parentElement as HTMLElement;
  const whole = make("div", { class: "whole" });
  box.replaceWith(whole);
  whole.append(copyButtons(table.id), scrolling(table));
  const notes = table.tFoot?.rows[0]?.cells[0];
  if (notes) {
    const count = notes.querySelectorAll("br").length + 1;
    const block = folded(count === 1 ? "Note on this table" : `${count} notes on this table`, make("p", {}, ...notes.childNodes));
    block.className = "notes";
    if (block.textContent?.trim() && block.lastElementChild?.textContent) whole.append(block);
    table.deleteTFoot();
  }
  table.style.setProperty("--columns", String(table.rows[0]?.cells.length ?? 1));
  armHeaders(table, `#${table.id}`, (order) => sortBy(table, order));
  for (const cell of table.querySelectorAll<HTMLElement>("td[data-runs]")) arm(cell, idsIn(cell), "Its runs");
  for (const row of table.querySelectorAll<HTMLTableRowElement>("tr[data-runs]:not([data-runs=''])")) {
    const name = nameCell(row);
    if (name) arm(name, idsIn(row), "Its runs");
  }
  showCounted(table);
}

/** Show the costs of rows without a finished run, where they are known: counted, not trained. */
function showCounted(table: HTMLTableElement): void {
  const headers = [...(table.tHead?.rows[0]?.cells ?? [])];
  const keys = headers.map((header) => Object.keys(model.data.costs).find((key) => model.data.costs[key]?.header === header.textContent));
  for (const row of table.querySelectorAll<HTMLTableRowElement>("tbody tr")) {
    const texts = model.data.counted?.[row.dataset.row ?? ""];
    keys.forEach((key, number) => {
      const cell = row.cells[row.cells.length - (headers.length - number)];
      const text = key && texts?.[key];
      if (!text || !cell?.classList.contains("hole")) return;
      const value = make("span", {}, text, make("small", {}, "counted"));
      (cell.querySelector("button") ?? cell).replaceChildren(value);
      cell.className = "counted";
      cell.dataset.value = text.replaceAll(",", "");
      cell.title = "Counted, not trained: no run of this row is finished";
    });
  }
}

/** Make a table that is too wide smaller, in two steps, before it has to scroll. */
function fit(): void {
  for (const table of document.querySelectorAll<HTMLElement>("table.report, #runtable")) {
    const isTooWide = (): boolean => table.offsetWidth > (table.parentElement?.clientWidth ?? Infinity) + 1;
    table.classList.remove("tight", "tighter");
    for (const step of ["tight", "tighter"]) if (isTooWide()) table.classList.add(step);
  }
}

export function matches(names: (string | null | undefined)[]): boolean {
  const wanted = find<HTMLInputElement>("filter").value.trim().toLowerCase();
  return names.some((name) => name?.toLowerCase().includes(wanted));
}

export function filterTables(): void {
  for (const table of reportTables()) {
    for (const body of table.tBodies) {
      const group = groupCell(body)?.textContent;
      for (const row of body.rows) row.hidden = !matches([row.dataset.row, nameCell(row)?.textContent, group]);
    }
    placeGroups(table);
  }
}

export function armTables(): void {
  reportTables().forEach(armTable);
  fit();
}

export function armWidths(): void {
  new ResizeObserver(fit).observe(find("tables"));
  on(["data"], fit);
}

/** Replace the tables by those of a server. */
export function renewTables(html: string): void {
  const holder = make("template");
  holder.innerHTML = html; // Python has escaped every text
  document.querySelectorAll("#tables .whole").forEach((node) => node.remove());
  find("tables").append(holder.content);
  armTables();
  filterTables();
}
