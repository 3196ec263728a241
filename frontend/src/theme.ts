/** Light and dark; paper is light. The charts' colours are those of page.css. */
import { find } from "./dom";
import { changed } from "./model";

export interface Palette {
  ink: string;
  paper: string;
  soft: string;
  line: string;
}

const LIGHT: Palette = { ink: "#1a1a1a", paper: "#ffffff", soft: "#5c5c5c", line: "#d4d4d4" };
const DARK: Palette = { ink: "#ececec", paper: "#17181a", soft: "#a9abb0", line: "#3c3f44" };
const preferred = matchMedia("(prefers-color-scheme: dark)");
let isPrinting = false;

const isDark = (): boolean => (document.documentElement.dataset.theme ?? (preferred.matches ? "dark" : "light")) === "dark";

export const palette = (): Palette => (isDark() && !isPrinting ? DARK : LIGHT);

/** A row's colour; black rows take the colour of the text. */
export const tint = (colour: string): string => (colour === "#000000" ? palette().ink : colour);

export function armTheme(): void {
  const name = (): void => {
    find("theme").textContent = isDark() ? "Light" : "Dark";
    find("theme").setAttribute("aria-pressed", String(isDark()));
    changed("theme");
  };
  find("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  preferred.addEventListener("change", name);
  const unfolded: HTMLDetailsElement[] = [];
  addEventListener("beforeprint", () => {
    isPrinting = true;
    for (const notes of document.querySelectorAll<HTMLDetailsElement>("details.notes:not([open])")) {
      notes.open = true;
      unfolded.push(notes);
    }
    changed("theme");
  });
  addEventListener("afterprint", () => {
    isPrinting = false;
    for (const notes of unfolded.splice(0)) notes.open = false;
    changed("theme");
  });
  name();
}
