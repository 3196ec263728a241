/** Sorting and filtering of rows by TanStack Table. Empty values come last, whichever way. */
import { createTable, getCoreRowModel, getFilteredRowModel, getSortedRowModel } from "@tanstack/table-core";
import type { SortingState, Table } from "@tanstack/table-core";
import { make } from "./dom";

export type Value = number | string | null;
export type Way = "ascending" | "descending";
export interface Order {
  column: number;
  way: Way;
}

const collator = new Intl.Collator(); // a hundred times faster than localeCompare

/** Words in a column of numbers, such as `baseline`, count as empty. */
function numericOnly<T>(items: T[], value: (item: T) => Value): (item: T) => number | string | undefined {
  const isNumeric = items.some((item) => typeof value(item) === "number");
  return (item) => {
    const found = value(item);
    return found === null || (isNumeric && typeof found !== "number") ? undefined : found;
  };
}

/**
 * Return the items that a filter keeps, in order.
 *
 * @param values - The values by which items are sorted, by column.
 * @param orders - The columns that decide, the most important first.
 */
export function arranged<T>(items: T[], values: ((item: T) => Value)[], orders: Order[], keeps: (item: T) => boolean = () => true): T[] {
  const sorting: SortingState = orders.map(({ column, way }) => ({ id: String(column), desc: way === "descending" }));
  const grid: Table<T> = createTable<T>({
    data: items,
    columns: values.map((value, number) => ({
      id: String(number),
      accessorFn: numericOnly(items, value),
      sortUndefined: "last",
      sortingFn: (a, b, id) => {
        const [one, other] = [a.getValue(id), b.getValue(id)];
        return typeof one === "number" ? one - (other as number) : collator.compare(String(one), String(other));
      },
    })),
    state: { sorting, globalFilter: true, columnPinning: {}, columnFilters: [], pagination: { pageIndex: 0, pageSize: items.length } },
    onStateChange: () => undefined,
    renderFallbackValue: null,
    getColumnCanGlobalFilter: () => true,
    globalFilterFn: (row) => keeps(row.original),
    getCoreRowModel: getCoreRowModel(),
    getFilteredRowModel: getFilteredRowModel(),
    getSortedRowModel: getSortedRowModel(),
  });
  return grid.getSortedRowModel().rows.map((row) => row.original);
}

/** Orders that the reader chose, by table: kept when a table is drawn again. */
const orders = new Map<string, Order>();

/** Put a button into each header that sorts by its column, and sort as before. */
export function armHeaders(table: HTMLTableElement, key: string, sort: (order: Order) => void): void {
  const headers = [...(table.tHead?.rows[0]?.cells ?? [])];
  const apply = (order: Order): void => {
    headers.forEach((header, number) => {
      if (number === order.column) header.setAttribute("aria-sort", order.way);
      else header.removeAttribute("aria-sort");
    });
    sort(order);
  };
  headers.forEach((header, column) => {
    const button = make("button", { type: "button", title: "Sort" }, header.textContent ?? "");
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const way = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      orders.set(key, { column, way });
      apply({ column, way });
    });
  });
  const before = orders.get(key);
  if (before && before.column < headers.length) apply(before);
}

export const orderOf = (key: string): Order | undefined => orders.get(key);
