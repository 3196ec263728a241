/** The overview of a store: its ablations, searches, recent runs and failures. */
import { find, make } from "./dom";
import { ago, shown, took } from "./format";
import { type Column, counts, link, list, plural } from "./lists";
import { on, raw } from "./model";
import { progressBar, progressText } from "./progress";
import type { AblationEntry, FailureEntry, OverviewData, RecentRun, ReportEntry, SweepEntry } from "./types";

const overview = (): OverviewData => raw.data as OverviewData;
const finished = ({ progress }: AblationEntry): boolean => progress.done >= progress.total;

function ablationColumns(reports: ReportEntry[]): Column<AblationEntry>[] {
  const of = (name: string): ReportEntry[] => reports.filter((report) => report.ablations.includes(name) && report.href);
  return [
    {
      title: "Ablation",
      cell: ({ name, href, description }) => [link(name, href), ...(description ? [make("small", {}, description)] : [])],
      value: ({ name }) => name,
    },
    { title: "Runs", cell: ({ counts: states, stale }) => counts(states, stale), value: ({ counts: states }) => states.done ?? 0 },
    {
      title: "Progress",
      cell: (item) => {
        if (finished(item)) return [item.counts.failed ? "ended" : "complete"];
        return [progressBar(item.progress, `Epochs done of ${item.name}`), make("small", {}, progressText(item.progress))];
      },
      value: ({ progress }) => progress.done / (progress.total || 1),
    },
    { title: "Last change", cell: ({ changed }) => [changed === null ? "never" : ago(changed)], value: ({ changed }) => changed },
    {
      title: "Reports",
      cell: ({ name }) => of(name).flatMap((report): (Node | string)[] => [link(report.name, report.href ?? "", { title: report.title }), ", "]).slice(0, -1),
      value: ({ name }) => of(name).length || null,
    },
  ];
}

const sweepColumns: Column<SweepEntry>[] = [
  { title: "Sweep", cell: ({ name, href, note }) => [href ? link(name, href) : name, ...(note ? [make("small", {}, note)] : [])], value: ({ name }) => name },
  { title: "Trials", cell: ({ counts: states }) => counts(states), value: ({ counts: states }) => states.done ?? 0 },
  { title: "Best so far", cell: ({ best }) => (best.length ? best.map((text) => make("div", {}, text)) : ["none yet"]), value: ({ best }) => best[0] ?? null },
  {
    title: "Progress",
    cell: ({ name, over, cap }) => (cap ? [make("progress", { max: cap, value: Math.min(over, cap), "aria-label": `Trials ended of ${name}` }), make("small", {}, `${over} of ${plural(cap, "trial")}`)] : [plural(over, "trial")]),
    value: ({ over }) => over,
  },
];

function nameOf(run: { names: RecentRun["names"]; trial: RecentRun["trial"]; attention?: string | null; backbone?: string | null; data?: string | null }): (Node | string)[] {
  const [first, ...others] = run.names;
  if (first) return [first.row, make("small", {}, first.ablation + (others.length ? ` and ${others.length} more` : ""))];
  if (run.trial) return [link(run.trial.text, run.trial.href)];
  return [run.attention ?? "unreadable", make("small", {}, [run.backbone, run.data].filter(Boolean).join(", "))];
}

const stateText = (run: RecentRun): string => (run.state === "running" ? `running, epoch ${run.epoch ?? 0} of ${run.epochs ?? "?"}` : run.state);

const runColumns: Column<RecentRun>[] = [
  { title: "Row", cell: nameOf, value: ({ names, attention }) => names[0]?.row ?? attention ?? null },
  { title: "Seed", cell: ({ seed }) => [shown(seed)], value: ({ seed }) => seed },
  { title: "Status", cell: (run) => [make("span", { class: run.state }, stateText(run))], value: stateText },
  {
    title: "Result",
    cell: ({ metric, value }) => (value === null ? [""] : [value, make("small", {}, metric ?? "")]),
    value: ({ value }) => (value === null ? null : Number(value)),
  },
  { title: "Duration", cell: ({ seconds }) => [seconds === null ? "" : took(seconds)], value: ({ seconds }) => seconds },
  { title: "When", cell: ({ ended }) => (ended ? [make("time", { datetime: ended, title: ended }, ago(Date.parse(ended) / 1000))] : [""]), value: ({ ended }) => ended },
  { title: "Run", cell: ({ run_id, href }) => [link(run_id, href, { class: "id" })], value: ({ run_id }) => run_id },
];

const failureColumns: Column<FailureEntry>[] = [
  { title: "Error", cell: ({ message, remedy }) => [make("span", { class: "failed" }, message), make("small", {}, remedy)], value: ({ message }) => message },
  { title: "Where", cell: ({ place }) => [place ? make("code", {}, place) : ""], value: ({ place }) => place || null },
  { title: "Runs", cell: ({ count, given_up }) => [plural(count, "run"), ...(given_up ? [make("small", {}, `${given_up} given up`)] : [])], value: ({ count }) => count },
  { title: "Attempts", cell: ({ attempts: [low, high] }) => [low === high ? String(low) : `${low} to ${high}`], value: ({ attempts }) => attempts[1] },
  {
    title: "Which",
    cell: ({ runs, count }) => {
      const links = runs.map((run) => make("li", {}, link(`${run.names[0]?.row ?? run.trial?.text ?? run.run_id}, seed ${shown(run.seed)}`, run.href)));
      const rest = count > runs.length ? [make("li", {}, `and ${count - runs.length} more`)] : [];
      const all = make("ul", { class: "plain" }, ...links, ...rest);
      return links.length > 3 ? [make("details", {}, make("summary", {}, plural(count, "run")), all)] : [all];
    },
    value: ({ runs }) => runs[0]?.names[0]?.row ?? null,
  },
];

/** Whether the reader has opened a folded list: kept when the page is drawn again. */
const opened = new Set<string>();

function foldedList(key: string, title: string, ...content: HTMLElement[]): HTMLElement {
  const block = make("details", {}, make("summary", {}, title), ...content);
  block.open = opened.has(key);
  block.addEventListener("toggle", () => (block.open ? opened.add(key) : opened.delete(key)));
  return block;
}

interface Part {
  id: string;
  title: string;
  content: HTMLElement[];
}

function ablationPart({ ablations, problems, reports }: OverviewData): Part {
  const columns = ablationColumns(reports);
  const begun = ablations.filter(({ changed }) => changed !== null).sort((a, b) => (b.changed ?? 0) - (a.changed ?? 0));
  const rest = ablations.filter(({ changed }) => changed === null);
  const content: HTMLElement[] = [];
  if (begun.length) content.push(list("ablationlist", "Ablations with runs, the latest first", columns, begun));
  if (rest.length) {
    const table = list("newablations", "Ablations of this folder without a run", columns.slice(0, 3), rest);
    content.push(begun.length ? foldedList("newablations", `${plural(rest.length, "ablation")} without a run`, table) : table);
  }
  const wrong = [...problems, ...reports.flatMap(({ name, problem }) => (problem ? [{ name, problem }] : []))];
  for (const { name, problem } of wrong) content.push(make("p", { class: "failed" }, `${name} cannot be read: ${problem}`));
  return { id: "ablations", title: "Ablations", content };
}

function partsOf(data: OverviewData): Part[] {
  const total = Object.values(data.counts).reduce((sum, count) => sum + count, 0);
  const recent = data.runs.length < total ? `The latest ${data.runs.length} of ${plural(total, "run")}, running ones first` : "All runs, running ones first, then the latest";
  const loose = data.ablations.length ? [] : data.reports;
  const reportList = make("ul", {}, ...loose.flatMap(({ name, href, title }) => (href ? [make("li", {}, link(name, href), ` ${title}`)] : [])));
  return [
    ...(data.ablations.length || data.problems.length ? [ablationPart(data)] : []),
    { id: "reports", title: "Reports", content: loose.length ? [reportList] : [] },
    { id: "sweeps", title: "Sweeps", content: data.sweeps.length ? [list("sweeplist", "Searches of hyper-parameters", sweepColumns, data.sweeps)] : [] },
    { id: "failures", title: "Failures", content: data.failures.length ? [list("failurelist", "Runs that failed and are not done since, by their error", failureColumns, data.failures)] : [] },
    { id: "recent", title: "Recent runs", content: data.runs.length ? [list("recentlist", recent, runColumns, data.runs)] : [] },
  ].filter(({ content }) => content.length);
}

function drawOverview(): void {
  const data = overview();
  const parts = partsOf(data);
  const focused = document.activeElement?.closest<HTMLElement>("#overview [id]")?.id;
  find("overview").replaceChildren(
    ...parts.map(({ id, title, content }) => make("section", { id, "aria-label": title }, make("h2", {}, title), ...content)),
    ...(parts.length ? [] : [make("p", {}, "Nothing is here yet: ", make("code", {}, "ema-lab run quickstart"), " trains a first ablation.")]),
  );
  if (focused) document.getElementById(focused)?.querySelector<HTMLElement>("button, a")?.focus({ preventScroll: true });
  find("parts").replaceChildren(...parts.flatMap(({ id, title }) => [link(title, `#${id}`), " "]));
  const runs = Object.keys(data.counts).length ? counts(data.counts) : ["no run yet"];
  find("standing").replaceChildren(...(data.store === null ? [] : ["Store ", make("code", {}, data.store), ": ", ...runs]));
}

export function armOverview(): void {
  on(["data"], drawOverview);
}
