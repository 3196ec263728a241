/** Tables of the overview and of a search: they sort by their headers; on a phone each line is a card. */
import { make, scrolling } from "./dom";
import { armHeaders, arranged, type Order, type Value } from "./grid";

export interface Column<T> {
  title: string;
  cell: (item: T) => (Node | string)[];
  value: (item: T) => Value;
}

export const link = (text: string, href: string, more: Record<string, string> = {}): HTMLElement => make("a", { href, ...more }, text);
export const plural = (count: number, noun: string): string => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Counts by state, each in its colour; states without a run are left out. */
export function counts(states: Record<string, number>, stale = 0): (Node | string)[] {
  const parts = Object.entries(states).filter(([, count]) => count);
  const all = parts.flatMap(([state, count]): (Node | string)[] => [make("span", { class: state }, `${count.toLocaleString("en")} ${state}`), ", "]);
  if (stale) all.push(make("span", { class: "stale" }, `${stale.toLocaleString("en")} stale`), ", ");
  return all.length ? all.slice(0, -1) : ["none"];
}

/** A table whose first column names the row. */
export function list<T>(key: string, caption: string, columns: Column<T>[], items: T[]): HTMLElement {
  const table = make("table", { id: key, class: "list" });
  table.createCaption().textContent = caption;
  table.createTHead().insertRow().append(...columns.map(({ title }) => make("th", { scope: "col" }, title)));
  const body = table.createTBody();
  const lines = new Map(
    items.map((item) => {
      const cells = columns.map(({ cell, title }, number) => make(number ? "td" : "th", number ? { "data-title": title } : { scope: "row" }, ...cell(item)));
      return [item, make("tr", {}, ...cells)];
    }),
  );
  const refill = (orders: Order[]): void => {
    const sorted = orders.length ? arranged(items, columns.map(({ value }) => value), orders) : items;
    body.replaceChildren(...sorted.flatMap((item) => lines.get(item) ?? []));
  };
  refill([]);
  armHeaders(table, key, (order) => refill([order]));
  return scrolling(table);
}
