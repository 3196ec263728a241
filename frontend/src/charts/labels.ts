/** Places of names beside points: each takes the first place that hides no other name, no point and no line. */

type Pair = [x: number, y: number];
type Box = [left: number, top: number, right: number, bottom: number];

/** Place of a name as the chart library takes it: from the upper left corner of a mark of `MARK` pixels. */
export interface Place {
  position: Pair;
  align: "left" | "right";
  verticalAlign: "middle";
  width: number;
}

export const MARK = 13;

const LETTER = 6.8; // width of a letter in pixels, rather too much than too little
const [HALF, GAP, RISE] = [8, 11, 13]; // half a line's height; from a point to its name, aside and up

const overlap = (a: Box, b: Box): number =>
  Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));

/** The boxes that the steps of a line fill: across at each height, then up to the next. */
function stepBoxes(steps: Pair[]): Box[] {
  return steps.slice(1).flatMap(([x, y], i): Box[] => {
    const [fromX, fromY] = steps[i] as Pair;
    return [
      [fromX, fromY - 1, x, fromY + 1],
      [x - 1, Math.min(fromY, y), x + 1, Math.max(fromY, y)],
    ];
  });
}

/**
 * Place names beside points of a plot.
 * @param points The points, in pixels from the plot's upper left corner.
 * @param names Their names.
 * @param steps Corners of a line in steps, likewise in pixels.
 * @param width The plot's width.
 */
export function places(points: Pair[], names: string[], steps: Pair[], width: number): Place[] {
  const taken: Box[] = [...points.map(([x, y]): Box => [x - 7, y - 7, x + 7, y + 7]), ...stepBoxes(steps)];
  return points.map(([x, y], i) => {
    const text = (names[i] ?? "").length * LETTER;
    const choices = [-RISE, RISE, 0, -2 * RISE, 2 * RISE].flatMap((rise) =>
      (["left", "right"] as const).map((align) => {
        const isAfter = align === "left";
        const room = Math.max(0, (isAfter ? width - x : x) - GAP);
        const long = Math.min(text, room);
        const left = isAfter ? x + GAP : x - GAP - long;
        const box: Box = [left, y + rise - HALF, left + long, y + rise + HALF];
        const hidden = taken.reduce((sum, other) => sum + overlap(box, other), 0);
        const position: Pair = [MARK / 2 + (isAfter ? GAP : -GAP), MARK / 2 + rise];
        return { place: { position, align, verticalAlign: "middle" as const, width: room }, box, cost: hidden + 40 * (text - long) };
      }),
    );
    const best = choices.reduce((one, other) => (other.cost < one.cost ? other : one));
    taken.push(best.box);
    return best.place;
  });
}
