/** Parallel coordinates of some items: an axis for each column, the last of which is usually the result. */
import { extreme } from "../format";
import { palette } from "../theme";
import type { Cell, Panel } from "./panel";

export type Values = (number | string | null)[];

export interface Axis {
  name: string;
  values: Values;
  isLog?: boolean;
}

export interface Item {
  name: string;
  colour: string;
  open?: () => void;
}

const isNumeric = (column: Values): boolean => column.every((value) => typeof value === "number");
const word = (value: number | string | null): string => (value === null ? "none" : String(value));

/** A scale for numbers, logarithmic over two decades or more; names in their order otherwise. */
function scale({ values, isLog }: Axis): object {
  if (isNumeric(values)) {
    const [low, high] = extreme(values as number[]);
    return low > 0 && (isLog || high / low >= 100) ? { type: "log" } : { type: "value", scale: true };
  }
  const words = [...new Set(values.map(word))];
  const collator = new Intl.Collator("en", { numeric: true });
  return { type: "category", data: words.sort((a, b) => Number(a === "none") - Number(b === "none") || collator.compare(a, b)) };
}

/** The value of an item on an axis, as the axis takes it. */
export function cell({ values }: Axis, i: number): number | string {
  const value = values[i] ?? null;
  return isNumeric(values) ? (value as number) : word(value);
}

export function showParallel(panel: Panel, items: Item[], axes: Axis[], summary: string, numbers: { head: string[]; rows: Cell[][] }): void {
  const { ink, soft, line } = palette();
  const text = { color: ink, fontSize: 12 };
  const room = (panel.width - 170) / Math.max(1, axes.length - 1) - 6; // between two axes
  const narrow = room < 130; // names take two lines
  panel.show(
    {
      height: 380,
      option: {
        parallel: { left: 80, right: 90, top: narrow ? 52 : 40, bottom: 24 },
        parallelAxis: axes.map((axis, dim) => ({
          dim,
          name: narrow ? axis.name.replace(/\.(?=[^.]*$)/, ".\n") : axis.name,
          nameTextStyle: { ...text, lineHeight: 15, width: Math.min(130, room), overflow: "truncate" },
          axisLabel: text,
          axisLine: { lineStyle: { color: soft, width: 1 } },
          areaSelectStyle: { color: line, opacity: 0.6 },
          ...scale(axis),
        })) as object[],
        tooltip: { trigger: "item" },
        series: [
          {
            type: "parallel",
            id: "lines",
            smooth: false,
            inactiveOpacity: 0.05,
            activeOpacity: 0.9,
            data: items.map(({ name, colour, open }, i) => ({
              name,
              value: axes.map((axis) => cell(axis, i)),
              lineStyle: { color: colour, width: 1.5, opacity: 0.7 },
              open,
            })) as object[],
          },
        ],
      },
      summary,
      head: numbers.head,
      numbers: numbers.rows,
    },
    axes.map(({ name }) => name).join(" "),
  );
}
