/** The progress of a grid that is not done: epochs done, and the time that is left. */
import { find, make } from "./dom";
import { duration, mean } from "./format";
import { model, on } from "./model";
import type { Run } from "./types";

const epochsOf = (run: Run): number => Number((run.spec.recipe as { epochs?: number } | undefined)?.epochs ?? 1);

/** Seconds per epoch of a row's finished runs; of all finished runs where the row has none. */
function pace(runs: Run[]): (run: Run) => number | null {
  const all: number[] = [];
  const byRow = new Map<string, number[]>();
  for (const run of runs) {
    if (run.status !== "done" || !run.wall_seconds) continue;
    const seconds = run.wall_seconds / epochsOf(run);
    all.push(seconds);
    for (const row of run.variants) byRow.set(row, [...(byRow.get(row) ?? []), seconds]);
  }
  return (run) => {
    const own = run.variants.flatMap((row) => byRow.get(row) ?? []);
    return own.length ? mean(own) : all.length ? mean(all) : null;
  };
}

function remaining(runs: Run[]): string {
  const open = runs.filter((run) => run.status === "running" || run.status === "pending");
  const workers = runs.filter((run) => run.status === "running").length;
  const paceOf = pace(runs);
  const seconds = open.map((run) => {
    const one = paceOf(run);
    return one === null ? null : one * Math.max(0, epochsOf(run) - (run.heartbeat ?? 0));
  });
  if (!workers || seconds.some((value) => value === null)) return "";
  const total = seconds.reduce<number>((sum, value) => sum + (value ?? 0), 0);
  return `, about ${duration(total / workers)} left with ${workers} at a time`;
}

function drawProgress(): void {
  const runs = Object.values(model.data.runs).filter((run) => run.status !== "failed");
  const total = runs.reduce((sum, run) => sum + epochsOf(run), 0);
  const done = runs.reduce((sum, run) => sum + (run.status === "done" ? epochsOf(run) : Math.min(epochsOf(run), run.heartbeat ?? 0)), 0);
  find("progress").hidden = done >= total;
  if (done >= total) return;
  const text = `${Math.floor((100 * done) / total)} % of the epochs${remaining(runs)}`;
  find("progress").replaceChildren(make("progress", { max: total, value: done, "aria-label": "Epochs done" }), ` ${text}`);
}

export function armProgress(): void {
  on(["data"], drawProgress);
}
