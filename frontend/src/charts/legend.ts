/** The rows beside the plots: a button shows or hides a row in all of them. */
import { find, make } from "../dom";
import { sample } from "../looks";
import { changed, model, on } from "../model";

function drawLegend(): void {
  const focused = (document.activeElement as HTMLElement | null)?.dataset.legend;
  find("legend").replaceChildren(
    ...model.data.rows.map((row) => {
      const toggle = make("button", { type: "button", "data-legend": row.row, "aria-pressed": String(!model.hidden.has(row.row)) }, sample(row), ` ${row.label}`);
      toggle.addEventListener("click", () => {
        if (!model.hidden.delete(row.row)) model.hidden.add(row.row);
        changed("rows");
      });
      return make("li", {}, toggle);
    }),
  );
  if (focused) find("legend").querySelector<HTMLElement>(`[data-legend="${CSS.escape(focused)}"]`)?.focus();
}

export function armLegend(): void {
  find("allrows").addEventListener("click", () => {
    model.hidden.clear();
    changed("rows");
  });
  find("norows").addEventListener("click", () => {
    for (const { row } of model.data.rows) model.hidden.add(row);
    changed("rows");
  });
  on(["data", "rows", "theme"], drawLegend);
}
