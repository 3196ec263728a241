/**
 * Served, the page is told of every change by the server and fetches its data again: tables and runs change, what the
 * reader chose stays. A page in a background tab listens to nothing: browsers open few connections to one server.
 */
import { find } from "./dom";
import { changed, raw, replaceData } from "./model";
import { renewTables } from "./tables";

let tag: string | null = null;
let isFetching = false;
let isOutdated = false;

function tell(isThere: boolean): void {
  const node = find("connection");
  node.hidden = isThere;
  node.textContent = isThere ? "" : "The server does not answer; what is shown is the last state.";
}

async function renew(path: string): Promise<void> {
  isOutdated = true;
  if (isFetching) return;
  isFetching = true;
  try {
    while (isOutdated) {
      isOutdated = false;
      const answer = await fetch(path, { headers: tag ? { "If-None-Match": tag } : {} });
      tell(answer.status === 200 || answer.status === 304);
      if (answer.status !== 200) continue;
      const isFirst = tag === null;
      tag = answer.headers.get("ETag");
      const fresh = await answer.json();
      if (isFirst && JSON.stringify(fresh.data) === JSON.stringify(raw.data)) continue; // nothing since the page was sent
      replaceData(fresh.data);
      if (document.body.dataset.kind === "report") renewTables(fresh.tables);
      changed("data");
    }
  } catch {
    tell(false);
  } finally {
    isFetching = false;
  }
}

export function armLive(): void {
  const path = document.body.dataset.live;
  if (!path) return;
  let events: EventSource | null = null;
  const listen = (): void => {
    if (document.hidden) {
      events?.close();
      events = null;
    } else if (!events) {
      events = new EventSource("/_events");
      events.addEventListener("change", () => void renew(path));
      events.addEventListener("error", () => {
        tell(false);
        if (events?.readyState !== EventSource.CLOSED) return; // the browser asks again by itself
        events = null;
        setTimeout(listen, 2000);
      });
      events.addEventListener("open", () => tell(true));
    }
  };
  document.addEventListener("visibilitychange", listen);
  listen();
}
