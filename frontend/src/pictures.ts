/** The report's own figures: drawn by matplotlib, beside the page, or by the server. */
import { find, make } from "./dom";
import { model, on } from "./model";

const FORMATS = ["pdf", "svg", "png", "txt"];

function picture(name: string, title: string, folder: string): HTMLElement {
  const path = (ending: string): string => `${folder}${encodeURIComponent(name)}.${ending}`;
  const image = make("img", { src: path("svg"), alt: `Figure ${name}: ${title}`, loading: "lazy" });
  image.addEventListener("error", () => {
    const text = "No picture is beside the page: either there was nothing to draw, or the page was moved without its folder figures.";
    image.replaceWith(make("p", { class: "hint" }, text));
  });
  const links = FORMATS.flatMap((ending) => [make("a", { href: path(ending) }, ending === "txt" ? "caption" : ending.toUpperCase()), " "]);
  return make("figure", { class: "picture" }, make("figcaption", {}, make("h3", {}, title), make("p", { class: "tools" }, ...links)), image);
}

let drawn = "";

export function armPictures(): void {
  on(["data"], () => {
    const { pictures, runs } = model.data;
    const live = document.body.dataset.live;
    const state = JSON.stringify([pictures, Object.values(runs).map((run) => run.status)]);
    if (state === drawn) return; // the server would draw every figure again
    drawn = state;
    for (const node of [find("figures"), find("tofigures")]) node.hidden = !pictures.length;
    find("pictures").replaceChildren(
      ...pictures.map(({ name, title }) => picture(name, title, live ? live.replace(/data$/, "figures/") : "figures/")),
    );
  });
}
