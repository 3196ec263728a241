/** Numbers of charts and specs as text. Tables hold Python's own texts. */

export function shown(value: unknown): string {
  if (value === null || value === undefined) return "n/a";
  if (typeof value !== "number") return typeof value === "object" ? JSON.stringify(value) : String(value);
  return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(6)));
}

/** A number on an axis of a span: `1.2M`, with digits enough to tell its neighbours apart. */
export function short(value: number, span = Infinity): string {
  const digits = Math.max(4, Math.min(12, Math.ceil(Math.log10(Math.abs(value) / span)) + 3 || 0));
  const sizes: [number, string][] = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  for (const [size, sign] of sizes) if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(digits))}${sign}`;
  return String(Number(value.toPrecision(digits)));
}

export function duration(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return "less than a minute";
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`;
}

/** How long something took: seconds are worth showing below two minutes. */
export const took = (seconds: number): string => (seconds < 120 ? `${Number(seconds.toPrecision(2))} s` : duration(seconds));

/** How long ago a time in seconds since 1970 was. */
export function ago(time: number): string {
  const seconds = Math.max(0, Date.now() / 1000 - time);
  return seconds < 60 ? "just now" : `${duration(seconds)} ago`;
}

export const times = (count: number): string => ["", "once", "twice"][count] || `${count} times`;

/** Whether a header says that its values are percentages. */
export const isPercent = (header: string): boolean => /%\)?$/.test(header);

/** The end of a bar or a band: a percentage is drawn to 0 and 100 only, whatever its interval says. */
export const end = (value: number, header: string): number => (isPercent(header) ? Math.min(100, Math.max(0, value)) : value);

export function extreme(values: Iterable<number>): [low: number, high: number] {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return [low, high];
}

export const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Nested values by dotted key. */
export function pairs(value: unknown, prefix = ""): [string, unknown][] {
  return Object.entries((value ?? {}) as object).flatMap(([key, inner]) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner) ? pairs(inner, `${prefix}${key}.`) : [[prefix + key, inner]],
  );
}
