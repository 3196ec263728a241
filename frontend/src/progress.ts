/** The progress of a grid that is not done: epochs done, and the time that is left. Python counts both. */
import { find, make } from "./dom";
import { duration } from "./format";
import { model, on } from "./model";
import type { Progress } from "./types";

export function progressText({ total, done, workers, seconds_left }: Progress): string {
  const left = seconds_left === null ? "" : `, about ${duration(seconds_left)} left with ${workers} at a time`;
  return `${Math.floor((100 * done) / total)} % of the epochs${left}`;
}

export function progressBar({ total, done }: Progress, label: string): HTMLProgressElement {
  return make("progress", { max: total, value: done, "aria-label": label });
}

function drawProgress(): void {
  const { progress } = model.data;
  const isDone = progress.done >= progress.total;
  find("progress").hidden = isDone;
  if (!isDone) find("progress").replaceChildren(progressBar(progress, "Epochs done"), ` ${progressText(progress)}`);
}

export function armProgress(): void {
  on(["data"], drawProgress);
}
