/** The page: tables by Python, charts by ECharts, sorting and filtering by TanStack Table. */
import { curves, showChosenCurves } from "./charts/curves";
import { armLegend } from "./charts/legend";
import { parallel } from "./charts/parallel";
import { predictions } from "./charts/predictions";
import { tradeoff } from "./charts/tradeoff";
import { copyButton } from "./copy";
import { find } from "./dom";
import { armLive } from "./live";
import { changed, model, on } from "./model";
import { armOverview } from "./overview";
import { armPictures } from "./pictures";
import { armProgress } from "./progress";
import { armRuns, drawRuns } from "./runs";
import { armSweep } from "./sweep";
import { armTables, armWidths, filterTables } from "./tables";
import { armTheme } from "./theme";
import { armRunPage, armViews } from "./views";

function armReport(): void {
  find("charts").append(tradeoff().node, curves().node, parallel().node);
  armTables();
  armLegend();
  predictions();
  armPictures();
  armProgress();
  armRuns(showChosenCurves);
  armWidths();
  find("filter").addEventListener("input", () => {
    filterTables();
    drawRuns();
  });
  find("commands").after(copyButton("Copy the commands", () => model.data.commands.join("\n")));
  on(["data"], () => {
    find("commands").textContent = model.data.commands.join("\n");
  });
}

const KINDS: Record<string, () => void> = { report: armReport, overview: armOverview, run: armRunPage, sweep: armSweep };

const { kind = "report", live } = document.body.dataset;
for (const node of document.querySelectorAll<HTMLElement>("[data-for]")) if (node.dataset.for !== kind) node.remove();
KINDS[kind]?.();
changed("data");
armTheme();
if (kind === "report") armViews();
if (live && kind !== "overview" && model.data.home !== false) {
  find<HTMLAnchorElement>("home").href = "/";
  find("home").hidden = false;
}
armLive();
