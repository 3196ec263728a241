/** Served, the page fetches itself again: tables and runs change, what the reader chose stays. */
import { find } from "./dom";
import { changed, model } from "./model";
import { renewTables } from "./tables";

const SECONDS = 2;

export function armLive(): void {
  const path = document.body.dataset.live;
  if (!path) return;
  let tag: string | null = null;
  setInterval(async () => {
    try {
      const answer = await fetch(path, { headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.status !== 200) return;
      tag = answer.headers.get("ETag");
      const fresh = await answer.json();
      model.data = fresh.data;
      renewTables(fresh.tables);
      changed("data");
    } catch {
      find("standing").textContent = "The server does not answer; what is shown is the last state.";
    }
  }, SECONDS * 1000);
}
