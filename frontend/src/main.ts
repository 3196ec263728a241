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
import { armPictures } from "./pictures";
import { armProgress } from "./progress";
import { armRuns, drawRuns } from "./runs";
import { armTables, armWidths, filterTables } from "./tables";
import { armTheme } from "./theme";
import { armViews } from "./views";

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
changed("data");
armTheme();
armViews();
armLive();
