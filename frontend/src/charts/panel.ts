/**
 * A chart in its frame: the controls above it, the numbers below it as a table for keyboards and screen readers.
 * Drag to zoom; buttons do the same for the keyboard.
 */
import { CustomChart, LineChart, ParallelChart, ScatterChart } from "echarts/charts";
import { DataZoomInsideComponent, GridComponent, ParallelComponent, ToolboxComponent, TooltipComponent } from "echarts/components";
import { init, use } from "echarts/core";
import type { EChartsType } from "echarts/core";
import { LabelLayout } from "echarts/features";
import { SVGRenderer } from "echarts/renderers";
import type { EChartsOption } from "echarts/types/dist/shared";
import { button, folded, make, table } from "../dom";
import { short } from "../format";
import { on } from "../model";
import { stroke } from "../looks";
import { palette } from "../theme";
import type { Line } from "../types";

use([CustomChart, LineChart, ParallelChart, ScatterChart, LabelLayout]);
use([DataZoomInsideComponent, GridComponent, ParallelComponent, ToolboxComponent, TooltipComponent, SVGRenderer]);

export type Cell = Node | string;
export interface Drawing {
  option: EChartsOption;
  /** What the chart shows, for readers who cannot see it. */
  summary: string;
  head: string[];
  numbers: Cell[][];
  height?: number;
  /** What the lines stand for where the rows' own key does not tell. */
  key?: { colour: string; line: Line; text: string }[];
}

const FONT = 'system-ui, -apple-system, "Segoe UI", sans-serif';
const hasFineMouse = !matchMedia("(pointer: coarse)").matches; // under a finger, dragging scrolls the page

/** Options of a value axis. */
export function axis(name: string, options: { isLog?: boolean; range?: [number, number]; isUp?: boolean; ends?: boolean } = {}): object {
  const { ink, soft, line } = palette();
  const [min, max] = options.range ?? [];
  const span = min === undefined || max === undefined || options.isLog ? Infinity : max - min;
  const ends = options.ends ?? false; // a padded range ends at odd numbers, which are not written
  return {
    type: options.isLog ? "log" : "value",
    name,
    nameLocation: "middle",
    nameTextStyle: { color: ink, fontFamily: FONT, fontSize: 13 },
    nameGap: options.isUp ? 48 : 30,
    scale: true,
    min,
    max,
    axisLabel: { color: ink, fontFamily: FONT, formatter: (value: number) => short(value, span), hideOverlap: true, showMinLabel: ends, showMaxLabel: ends },
    axisLine: { show: true, onZero: false, lineStyle: { color: soft } },
    splitLine: { lineStyle: { color: line, width: 0.5 } },
  };
}

/** The bounds of some values with room around them; on a log axis the room is a factor. */
export function padded([low, high]: [number, number], isLog = false): [number, number] {
  if (isLog && low > 0) {
    const factor = (high / low) ** 0.06 || 1.1;
    return [low / Math.max(factor, 1.05), high * Math.max(factor, 1.05)];
  }
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}

/** The box of a hovering text: a title and lines of text. */
export function bubble(title: string, lines: string[]): HTMLElement {
  return make("div", { class: "bubble" }, make("strong", {}, title), ...lines.map((text) => make("div", {}, text)));
}

export class Panel {
  readonly node: HTMLElement;
  readonly controls: HTMLElement;
  private readonly plot: HTMLElement;
  private readonly numbers: HTMLDetailsElement;
  private readonly zoom: HTMLElement;
  private readonly key: HTMLElement;
  private chart: EChartsType | null = null;
  private kind = "";

  constructor(id: string, title: string, hint: string, private readonly hasZoom = true) {
    this.controls = make("div", { class: "tools" });
    this.zoom = make("div", { class: "tools zoom", role: "group", "aria-label": `Zoom: ${title}` });
    this.zoom.append(
      button("+", () => this.scale(0.6), { "aria-label": "Zoom in" }),
      button("−", () => this.scale(1 / 0.6), { "aria-label": "Zoom out" }),
      button("Reset", () => this.scale(0), { "aria-label": "Reset the zoom" }),
    );
    this.plot = make("div", { class: "plot" });
    this.key = make("ul", { class: "key" });
    this.numbers = folded("Numbers of this plot");
    const head = make("div", { class: "head" }, make("h3", {}, title), this.zoom);
    this.node = make("figure", id ? { id } : {}, make("figcaption", {}, head, this.controls), this.key, this.plot);
    if (hint) this.node.append(make("p", { class: "hint" }, hint));
    this.node.append(this.numbers);
    new ResizeObserver(() => this.chart?.resize()).observe(this.plot);
  }

  /** The width of the drawing, in pixels. */
  get width(): number {
    return this.plot.clientWidth || 480;
  }

  /** Its height. */
  get height(): number {
    return this.plot.clientHeight || 360;
  }

  /** Draw. `kind`: what the axes show; the zoom stays as long as it stays. A text is shown instead of a chart. */
  show(drawing: Drawing | string, kind = ""): void {
    const isText = typeof drawing === "string";
    this.zoom.hidden = isText || !this.hasZoom;
    this.numbers.hidden = isText;
    this.key.hidden = isText || !drawing.key?.length;
    if (isText) {
      this.chart?.dispose();
      this.chart = null;
      this.plot.style.height = "auto";
      this.plot.removeAttribute("role");
      this.plot.removeAttribute("aria-label");
      this.plot.replaceChildren(make("p", { class: "hint" }, drawing));
      return;
    }
    const { option, summary, head, numbers, height, key } = drawing;
    this.key.replaceChildren(...(key ?? []).map(({ colour, line, text }) => make("li", {}, stroke(colour, line), ` ${text}`)));
    this.plot.style.height = height ? `${height}px` : "";
    if (!this.chart) {
      this.plot.replaceChildren();
      this.chart = init(this.plot, null, { renderer: "svg", height: this.plot.clientHeight || height || 360 });
      this.chart.on("click", (event) => (event.data as { open?: () => void } | null)?.open?.());
    }
    this.plot.setAttribute("role", "img");
    this.plot.setAttribute("aria-label", summary);
    const whole = { ...this.frame(), ...option };
    if (this.kind === kind) this.chart.setOption(whole, { replaceMerge: ["series"] });
    else this.chart.setOption(whole, { notMerge: true });
    this.kind = kind;
    this.chart.resize();
    if (this.hasZoom && hasFineMouse) {
      this.chart.dispatchAction({ type: "takeGlobalCursor", key: "dataZoomSelect", dataZoomSelectActive: true });
    }
    const isOpen = this.numbers.open;
    this.numbers.replaceChildren(this.numbers.firstElementChild as Node, table(head, numbers, summary));
    this.numbers.open = isOpen;
  }

  /** Draw again whenever something changes that the drawing depends on. */
  redraw(view: () => void): void {
    on(["data", "rows", "theme"], view);
  }

  private frame(): EChartsOption {
    const { ink, paper, soft } = palette();
    return {
      animation: false,
      textStyle: { fontFamily: FONT, color: ink },
      grid: { left: 66, right: 20, top: 14, bottom: 48 },
      tooltip: { trigger: "item", confine: true, backgroundColor: paper, borderColor: soft, textStyle: { color: ink, fontFamily: FONT, fontSize: 13 } },
      ...(this.hasZoom && {
        dataZoom: ["xAxisIndex", "yAxisIndex"].map((axis) => ({
          type: "inside",
          [axis]: "all",
          filterMode: "none",
          zoomOnMouseWheel: "ctrl",
          moveOnMouseMove: false,
          preventDefaultMouseMove: false,
        })),
        toolbox: { itemSize: 0, showTitle: false, top: -40, feature: { dataZoom: { filterMode: "none", brushStyle: { color: soft, opacity: 0.25 } } } },
      }),
    } as EChartsOption;
  }

  /** Scale what the axes show around its middle; 0 shows everything. */
  private scale(factor: number): void {
    const zooms = (this.chart?.getOption() as { dataZoom?: { start?: number; end?: number }[] } | undefined)?.dataZoom ?? [];
    zooms.forEach(({ start = 0, end = 100 }, dataZoomIndex) => {
      const middle = (start + end) / 2;
      const half = ((end - start) / 2) * factor;
      const range = factor === 0 ? { start: 0, end: 100 } : { start: Math.max(0, middle - half), end: Math.min(100, middle + half) };
      this.chart?.dispatchAction({ type: "dataZoom", dataZoomIndex, ...range });
    });
  }
}
