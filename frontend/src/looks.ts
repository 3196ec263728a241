/** Markers and lines by the names that matplotlib gives them: a row looks here as it does in the figures. */
import { draw } from "./dom";
import { tint } from "./theme";
import type { Line, Marker, Row } from "./types";

const PATHS: Record<Marker, (r: number) => string> = {
  o: (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0z`,
  s: (r) => `M${-r},${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  "^": (r) => `M0,${-1.3 * r}l${1.2 * r},${2.2 * r}h${-2.4 * r}z`,
  D: (r) => `M0,${-1.4 * r}l${1.4 * r},${1.4 * r}l${-1.4 * r},${1.4 * r}l${-1.4 * r},${-1.4 * r}z`,
  v: (r) => `M0,${1.3 * r}l${1.2 * r},${-2.2 * r}h${-2.4 * r}z`,
  P: (r) => `M${-r / 2},${-1.3 * r}h${r}v${0.8 * r}h${0.8 * r}v${r}h${-0.8 * r}v${0.8 * r}h${-r}v${-0.8 * r}h${-0.8 * r}v${-r}h${0.8 * r}z`,
  X: (r) =>
    `M${-1.2 * r},${-0.6 * r}l${0.6 * r},${-0.6 * r}l${0.6 * r},${0.6 * r}l${0.6 * r},${-0.6 * r}l${0.6 * r},${0.6 * r}l${-0.6 * r},${0.6 * r}` +
    `l${0.6 * r},${0.6 * r}l${-0.6 * r},${0.6 * r}l${-0.6 * r},${-0.6 * r}l${-0.6 * r},${0.6 * r}l${-0.6 * r},${-0.6 * r}l${0.6 * r},${-0.6 * r}z`,
};
const DASHES: Record<Line, number[]> = { "-": [], "--": [7, 3], ":": [2, 2.5], "-.": [8, 3, 2, 3] };

export const symbol = (marker: Marker): string => `path://${PATHS[marker](10)}`;
export const dashes = (line: Line): number[] | "solid" => (DASHES[line].length ? DASHES[line] : "solid");

const css = (colour: string): string => (colour === "#000000" ? "currentColor" : tint(colour));

/** A piece of a line for a key. */
export function stroke(colour: string, line: Line): SVGElement {
  const svg = draw("svg", { viewBox: "0 0 32 16", "aria-hidden": "true" });
  const dash = DASHES[line].join(" ") || "none";
  svg.append(draw("line", { x1: 0, x2: 32, y1: 8, y2: 8, stroke: css(colour), "stroke-width": 2, "stroke-dasharray": dash }));
  return svg;
}

/** A row's line and marker for a key. */
export function sample(row: Row): SVGElement {
  const svg = stroke(row.colour, row.line);
  svg.append(draw("path", { d: PATHS[row.marker](5), transform: "translate(16 8)", fill: css(row.colour) }));
  return svg;
}
