/** The page of a search: its trials, its history, its parameters, and how much each one matters. */
import type { Panel } from "./charts/panel";
import { axis, bubble, padded, Panel as Frame } from "./charts/panel";
import { type Axis, showParallel } from "./charts/parallel_axes";
import { copyButton } from "./copy";
import { fill, find, make } from "./dom";
import { extreme, took } from "./format";
import { type Column, counts, link, list, plural } from "./lists";
import { on, raw } from "./model";
import { palette } from "./theme";
import type { SweepData, Trial } from "./types";

type Finished = Trial & { values: number[] };

const HISTORY = "One point per finished trial, in the order in which the trials began; the line is the best value so far. Choose a point to see its runs.";
const PARALLEL =
  "One line per finished trial across the searched parameters and the results; the best fifth is orange. Drag along an axis to keep only the " +
  "trials that pass there; click the axis to keep all.";
const FRONT = "One point per finished trial; filled: no other trial is better in one objective and worse in none.";
const [BLUE, RED] = ["#0072B2", "#D55E00"];

const sweep = (): SweepData => raw.data as SweepData;
const isFinished = (trial: Trial): trial is Finished => trial.values !== null;
const finished = (): Finished[] => sweep().trials.filter(isFinished);
const inOrder = (): Finished[] => finished().sort((a, b) => a.number - b.number);
const runLink = (id: string): HTMLElement => link(id, `/runs/${id}`, { class: "id" });
const openRun = (trial: Trial) => () => {
  if (trial.runs[0]) location.href = `/runs/${trial.runs[0]}`;
};
const nameOf = (trial: Trial): string => `Trial ${trial.number}`;
const choiceLines = (trial: Trial): string[] => sweep().parameters.flatMap(({ key, label }) => (key in trial.shown ? [`${label}: ${trial.shown[key]}`] : []));
const valueLines = (trial: Trial): string[] => sweep().objectives.map(({ label }, i) => `${label}: ${trial.texts[i]}`);
const hover = (trial: Trial): HTMLElement => bubble(nameOf(trial), [...valueLines(trial), ...choiceLines(trial)]);

function stateOf({ state, stale, message }: Trial): (Node | string)[] {
  const end = stale.length ? [make("small", { class: "stale" }, `stale: ${stale.join(", ")}`)] : [];
  return [make("span", { class: state }, state), ...end, ...(message ? [make("small", {}, message)] : [])];
}

function drawTrials(): void {
  const { objectives, parameters, trials, running } = sweep();
  const columns: Column<Trial>[] = [
    { title: "Trial", cell: (trial) => [make("span", trial.best ? { class: "best" } : {}, `${trial.number}${trial.best ? (objectives.length > 1 ? " (on the front)" : " (best)") : ""}`)], value: ({ number }) => number },
    { title: "Status", cell: stateOf, value: ({ state }) => state },
    ...objectives.map(({ label }, i) => ({
      title: label,
      cell: (trial: Trial) => [trial.values ? (trial.texts[i] ?? "") : ""],
      value: (trial: Trial) => trial.values?.[i] ?? null,
    })),
    ...parameters.map(({ key, label }) => ({
      title: label,
      cell: (trial: Trial) => [trial.shown[key] ?? ""],
      value: (trial: Trial) => trial.choice[key] ?? null,
    })),
    { title: "Duration", cell: ({ seconds }) => [seconds === null ? "" : took(seconds)], value: ({ seconds }) => seconds },
    { title: "Runs", cell: ({ runs }) => runs.flatMap((id) => [runLink(id), " "]), value: ({ runs }) => runs[0] ?? null },
  ];
  const now = running.map((trial) =>
    make("li", {}, make("span", { class: "running" }, `Trial ${trial.number} is running`), `: ${Object.entries(trial.shown).map(([key, value]) => `${key} = ${value}`).join(", ") || "values not chosen yet"}`),
  );
  find("trials").replaceChildren(
    make("h2", {}, "Trials"),
    ...(now.length ? [make("ul", { class: "plain" }, ...now)] : []),
    trials.length ? list("triallist", objectives.length > 1 ? "All trials that have ended, the Pareto front first" : "All trials that have ended, the best first", columns, trials) : make("p", {}, "No trial has ended yet."),
  );
}

/** The objective that the reader chose. */
function chosen(): number {
  return Math.max(0, Number(find<HTMLSelectElement>("objective").value) || 0);
}

function drawHistory(panel: Panel): void {
  const { objectives } = sweep();
  const i = chosen();
  const objective = objectives[i];
  const trials = inOrder();
  if (!objective || !trials.length) return panel.show("No trial is finished yet.");
  const { paper, soft } = palette();
  let best = -Infinity;
  const steps = trials.map((trial): [number, number] => {
    best = Math.max(best, objective.sign * (trial.values[i] ?? 0));
    return [trial.number, objective.sign * best];
  });
  panel.show(
    {
      option: {
        xAxis: { ...axis("Trial"), minInterval: 1, min: "dataMin", max: "dataMax" } as object,
        yAxis: axis(objective.label, { isUp: true, range: padded(extreme(trials.map(({ values }) => values[i] ?? 0))) }),
        series: [
          { type: "line", id: "best", step: "end", data: steps, symbol: "none", silent: true, lineStyle: { color: soft, width: 1.5 } },
          {
            type: "scatter",
            id: "trials",
            symbolSize: 11,
            data: trials.map((trial) => ({
              name: nameOf(trial),
              value: [trial.number, trial.values[i] ?? 0],
              itemStyle: { color: trial.state === "warm" ? paper : BLUE, borderColor: BLUE, borderWidth: 1.5 },
              tooltip: { formatter: () => hover(trial) },
              open: openRun(trial),
            })),
          },
        ],
      },
      summary: `${objective.label} of ${plural(trials.length, "finished trial")} in their order`,
      head: ["Trial", objective.label, "Best so far"],
      numbers: trials.map((trial, number) => [String(trial.number), trial.texts[i] ?? "", (steps[number]?.[1] ?? 0).toFixed(objective.digits)]),
      key: [{ colour: "#000000", line: "-", text: "best so far" }],
    },
    `history ${i}`,
  );
}

function drawFront(panel: Panel): void {
  const { objectives } = sweep();
  const [up, across] = objectives;
  panel.node.hidden = objectives.length !== 2;
  if (!up || !across || panel.node.hidden) return;
  const trials = inOrder();
  if (!trials.length) return panel.show("No trial is finished yet.");
  const { paper } = palette();
  panel.show(
    {
      option: {
        xAxis: axis(across.label, { range: padded(extreme(trials.map(({ values }) => values[1] ?? 0))) }),
        yAxis: axis(up.label, { isUp: true, range: padded(extreme(trials.map(({ values }) => values[0] ?? 0))) }),
        series: [
          {
            type: "scatter",
            id: "trials",
            symbolSize: 11,
            data: trials.map((trial) => ({
              name: nameOf(trial),
              value: [trial.values[1] ?? 0, trial.values[0] ?? 0],
              itemStyle: { color: trial.best ? RED : paper, borderColor: trial.best ? RED : BLUE, borderWidth: 1.5 },
              tooltip: { formatter: () => hover(trial) },
              open: openRun(trial),
            })),
          },
        ],
      },
      summary: `${up.label} against ${across.label} of ${plural(trials.length, "finished trial")}`,
      head: ["Trial", up.label, across.label, "On the front"],
      numbers: trials.map((trial) => [String(trial.number), trial.texts[0] ?? "", trial.texts[1] ?? "", trial.best ? "yes" : "no"]),
    },
    "front",
  );
}

/** The colour of each trial: that of the best fifth, or that of the others. */
function rankColours(trials: Finished[], i: number, sign: number): string[] {
  const { soft } = palette();
  const order = trials.map(({ values }) => sign * (values[i] ?? 0)).sort((a, b) => b - a);
  const bound = order[Math.max(0, Math.ceil(order.length / 5) - 1)] ?? 0;
  return trials.map(({ values }) => (sign * (values[i] ?? 0) >= bound ? RED : soft) as string);
}

function drawParallel(panel: Panel): void {
  const { objectives, parameters } = sweep();
  const trials = inOrder();
  panel.node.hidden = !parameters.length;
  if (panel.node.hidden) return;
  if (!trials.length) return panel.show("No trial is finished yet.");
  const axes: Axis[] = [
    ...parameters.map(({ key, label, log }) => ({ name: label, isLog: log, values: trials.map(({ choice }) => choice[key] ?? null) })),
    ...objectives.map(({ label }, i) => ({ name: label, values: trials.map(({ values }) => values[i] ?? null) })),
  ];
  const i = chosen();
  const colours = rankColours(trials, i, objectives[i]?.sign ?? 1);
  const items = trials.map((trial, number) => ({ name: nameOf(trial), colour: colours[number] ?? "", open: openRun(trial) }));
  const head = ["Trial", ...parameters.map(({ label }) => label), ...objectives.map(({ label }) => label)];
  const rows = trials.map((trial) => [String(trial.number), ...parameters.map(({ key }) => trial.shown[key] ?? ""), ...trial.texts]);
  showParallel(panel, items, axes, `${plural(trials.length, "finished trial")} over ${plural(parameters.length, "parameter")}`, { head, rows });
}

function drawImportance(): void {
  const blocks = sweep().importance.flatMap(({ label, shares, note }) => {
    const rows = shares.map(([name, share]) =>
      make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, make("meter", { min: 0, max: 1, value: share, "aria-label": `Importance of ${name}` }), ` ${share.toFixed(2)}`)),
    );
    const table = make("table", { class: "shares" }, make("caption", {}, `Importance for ${label} (PED-ANOVA, shares of one)`), make("tbody", {}, ...rows));
    return [...(shares.length ? [table] : [make("p", { class: "hint" }, `${label}: ${note}`)]), ...(shares.length && note ? [make("p", { class: "hint" }, note)] : [])];
  });
  find("importance").replaceChildren(make("h2", {}, "Importance"), ...blocks);
}

function drawHead(): void {
  const { counts: states, notes, cap, objectives, commands } = sweep();
  const over = (states.done ?? 0) + (states.pruned ?? 0) + (states.failed ?? 0);
  find("standing").replaceChildren(...counts(states), cap ? ` of ${plural(cap, "trial")}` : "");
  find("progress").hidden = !cap || over >= cap;
  if (cap && over < cap) find("progress").replaceChildren(make("progress", { max: cap, value: over, "aria-label": "Trials ended" }), ` ${over} of ${plural(cap, "trial")} ended`);
  find("notes").replaceChildren(...notes.map((note) => make("p", {}, note)));
  find("sweepcommands").textContent = commands.join("\n");
  fill(find("objective"), objectives.map(({ label }, i) => [String(i), label]), "0");
  (find("objective").closest("p") as HTMLElement).hidden = objectives.length < 2;
}

export function armSweep(): void {
  const [history, front, parallel] = [new Frame("history", "History", HISTORY), new Frame("front", "Trade-off", FRONT), new Frame("trialparallel", "Parameters and results", PARALLEL, false)];
  find("search").append(history.node, front.node, parallel.node);
  find("sweepcommands").after(copyButton("Copy the commands", () => sweep().commands.join("\n")));
  const draw = (): void => {
    drawHistory(history);
    drawFront(front);
    drawParallel(parallel);
  };
  on(["data"], drawHead);
  on(["data"], drawTrials);
  on(["data", "theme"], draw);
  on(["data"], drawImportance);
  find("objective").addEventListener("change", draw);
}
