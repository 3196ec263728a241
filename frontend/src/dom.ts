/** Elements: texts are set as text, never as HTML, since names come from files of others. */

type Attributes = Record<string, string | number>;

export function find<T extends HTMLElement = HTMLElement>(id: string): T {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no #${id}`);
  return node as T;
}

function filled<T extends Element>(node: T, attributes: Attributes, children: (Node | string)[]): T {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  return filled(document.createElement(tag), attributes, children);
}

export function draw(tag: string, attributes: Attributes): SVGElement {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, []);
}

export function button(text: string, act: () => void, attributes: Attributes = {}): HTMLButtonElement {
  const node = make("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", act);
  return node;
}

/** A checkbox with its label. */
export function check(text: string, isOn: boolean, act: (isOn: boolean) => void): HTMLLabelElement {
  const box = make("input", { type: "checkbox" });
  box.checked = isOn;
  box.addEventListener("change", () => act(box.checked));
  return make("label", {}, box, ` ${text}`);
}

/** A list to choose from that keeps what the reader chose when it is filled again. */
export function fill(select: HTMLSelectElement, options: [value: string, text: string][], wanted: string): void {
  const before = select.value || wanted;
  const is_new = JSON.stringify([...select.options].map((one) => [one.value, one.text])) !== JSON.stringify(options);
  if (is_new) select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === before)) select.value = before;
}

/** Tell the reader, and a screen reader, what a button did. */
export function say(text: string): void {
  find("said").textContent = text;
}

/** A table in a box that scrolls. */
export function table(head: string[], rows: (Node | string)[][], caption = ""): HTMLDivElement {
  const node = make("table");
  if (caption) node.createCaption().textContent = caption;
  const line = node.createTHead().insertRow();
  line.append(...head.map((text) => make("th", { scope: "col" }, text)));
  const body = node.createTBody();
  for (const [first, ...rest] of rows) {
    body.insertRow().append(make("th", { scope: "row" }, first ?? ""), ...rest.map((cell) => make("td", {}, cell)));
  }
  return scrolling(node);
}

/** A box that scrolls sideways; the keyboard reaches it. */
export function scrolling(node: HTMLTableElement): HTMLDivElement {
  if (node.caption) node.caption.replaceChildren(make("span", {}, ...node.caption.childNodes)); // stays in sight
  const name = node.caption?.textContent || "Table";
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, node);
}

export function folded(title: string, ...children: (Node | string)[]): HTMLDetailsElement {
  return make("details", {}, make("summary", {}, title), ...children);
}
