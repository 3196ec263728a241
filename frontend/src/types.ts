/** The data of a page, as `ema_lab/reports/page/data.py` writes it. */

export type Marker = "o" | "s" | "^" | "D" | "v" | "P" | "X";
export type Line = "-" | "--" | ":" | "-.";
export type Curve = Record<string, (number | null)[]>;

export interface Metric {
  label: string;
  header: string;
  sign: 1 | -1;
}

/** A cost of a model. Tables and charts show the recorded number divided by `scale`. */
export interface Cost {
  label: string;
  header: string;
  scale: number;
}

export interface Mean {
  mean: number;
  low: number | null;
  high: number | null;
  n: number;
  text: string;
}

export interface Row {
  row: string;
  label: string;
  means: Record<string, Mean>;
  colour: string;
  marker: Marker;
  line: Line;
}

export interface Attempt {
  number: number;
  outcome: string | null;
  [key: string]: unknown;
}

export interface Run {
  variants: string[];
  seed: number;
  status: string;
  failures: number;
  stale: string[];
  spec: Record<string, unknown>;
  metrics: Record<string, number>;
  cost: Record<string, number>;
  /** Metrics and costs as the tables print them. */
  texts: Record<string, string>;
  chosen_epoch: number | null;
  wall_seconds: number | null;
  environment: Record<string, unknown>;
  data_sha256: string | null;
  attempts: Attempt[];
  why: string | null;
  place: string | null;
  curve: Curve | null;
  log: string | null;
}

interface Drawn {
  title: string;
  caption: string;
}

export interface PrecisionFigure extends Drawn {
  kind: "precision_recall";
  across: string;
  up: string;
  curves: { row: string; average: number | null; mean: (number | null)[]; low: (number | null)[]; high: (number | null)[] }[];
}

export interface ConfusionFigure extends Drawn {
  kind: "confusion";
  down: string[];
  names: string[];
  counts: number[][];
}

export interface DotsFigure extends Drawn {
  kind: "sizes" | "classes";
  across: string;
  groups: string[];
  points: Record<string, [number, number | null, number | null]>[];
}

export type Figure = PrecisionFigure | ConfusionFigure | DotsFigure;

/** Epochs of a grid in all and done, runs at a time, and the time that is left if it is known. */
export interface Progress {
  total: number;
  done: number;
  workers: number;
  seconds_left: number | null;
}

export interface AblationEntry {
  name: string;
  href: string;
  description: string;
  local: boolean;
  counts: Record<string, number>;
  stale: number;
  progress: Progress;
  /** Time of the last change of one of its runs, in seconds since 1970. */
  changed: number | null;
}

export interface SweepEntry {
  name: string;
  href: string | null;
  note: string;
  counts: Record<string, number>;
  best: string[];
  over: number;
  cap: number | null;
}

export interface NamedRun {
  run_id: string;
  href: string;
  seed: number | null;
  names: { ablation: string; row: string }[];
  trial: { text: string; href: string } | null;
}

export interface RecentRun extends NamedRun {
  state: string;
  attention: string | null;
  backbone: string | null;
  data: string | null;
  epoch: number | null;
  epochs: number | null;
  seconds: number | null;
  ended: string | null;
  metric: string | null;
  value: string | null;
}

export interface FailureEntry {
  message: string;
  place: string;
  remedy: string;
  count: number;
  given_up: number;
  attempts: [fewest: number, most: number];
  runs: NamedRun[];
}

export interface ReportEntry {
  name: string;
  href: string | null;
  title: string;
  ablations: string[];
  problem: string | null;
}

export interface OverviewData {
  store: string | null;
  ablations: AblationEntry[];
  problems: { name: string; problem: string }[];
  reports: ReportEntry[];
  sweeps: SweepEntry[];
  counts: Record<string, number>;
  runs: RecentRun[];
  failures: FailureEntry[];
}

export interface SweepParameter {
  key: string;
  label: string;
  log: boolean;
  choices: string[] | null;
}

export interface Trial {
  number: number;
  state: string;
  stale: string[];
  best: boolean;
  /** One value per objective, in the unit of its label. */
  values: number[] | null;
  texts: string[];
  /** By dotted key: a number, or the label of a listed value. */
  choice: Record<string, number | string>;
  shown: Record<string, string>;
  runs: string[];
  seconds: number | null;
  message: string;
}

export interface SweepData {
  name: string;
  study: string;
  notes: string[];
  counts: Record<string, number>;
  cap: number | null;
  objectives: { label: string; sign: 1 | -1; digits: number }[];
  parameters: SweepParameter[];
  trials: Trial[];
  running: { number: number; shown: Record<string, string>; runs: string[] }[];
  importance: { label: string; shares: [name: string, share: number][]; note: string }[];
  commands: string[];
}

export interface PageData {
  name: string;
  /** Of a run's own page: the pages on which it stands among others. */
  places?: { text: string; href: string }[];
  /** Whether the server has more than this page. */
  home?: boolean;
  progress: Progress;
  /** Costs as text of rows without a finished run, which a server knows. */
  counted?: Record<string, Record<string, string>>;
  title: string;
  digits: number;
  metrics: Record<string, Metric>;
  primary: string;
  costs: Record<string, Cost>;
  columns: Record<string, string>;
  rows: Row[];
  others: Row[];
  commands: string[];
  tables: { name: string; latex: string; markdown: string; csv: string }[];
  figures: Figure[];
  pictures: { name: string; title: string }[];
  left_out: string | null;
  runs: Record<string, Run>;
}
