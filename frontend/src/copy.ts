/** Copying of texts; also on pages that a server sends without TLS, where browsers have no clipboard interface. */
import { button, make, say } from "./dom";

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { readonly: "", class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    return isDone;
  }
}

/** A button that copies a text. `text` is asked when the button is pressed, so that live data is current. */
export function copyButton(label: string, text: () => string): HTMLButtonElement {
  const node = button(label, async () => {
    const isDone = await copy(text());
    say(isDone ? `Copied: ${label}` : "The browser does not allow copying.");
    node.classList.toggle("copied", isDone);
    setTimeout(() => node.classList.remove("copied"), 1500);
  });
  return node;
}
