"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, text = "") => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== "") node.textContent = text;
    return node;
  };
  const draw = (tag, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== "") node.textContent = text;
    return node;
  };
  // By the names that matplotlib gives them: a row looks here as it does in the figures.
  const SHAPES = {
    o: (x, y, r) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
    s: (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    "^": (x, y, r) => `M${x},${y - 1.3 * r}l${1.2 * r},${2.2 * r}h${-2.4 * r}z`,
    D: (x, y, r) => `M${x},${y - 1.4 * r}l${1.4 * r},${1.4 * r}l${-1.4 * r},${1.4 * r}l${-1.4 * r},${-1.4 * r}z`,
    v: (x, y, r) => `M${x},${y + 1.3 * r}l${1.2 * r},${-2.2 * r}h${-2.4 * r}z`,
    P: (x, y, r) => `M${x - r / 2},${y - 1.3 * r}h${r}v${0.8 * r}h${0.8 * r}v${r}h${-0.8 * r}v${0.8 * r}h${-r}v${-0.8 * r}h${-0.8 * r}v${-r}h${0.8 * r}z`,
    X: (x, y, r) => `M${x - 1.2 * r},${y - 0.6 * r}l${0.6 * r},${-0.6 * r}l${0.6 * r},${0.6 * r}l${0.6 * r},${-0.6 * r}l${0.6 * r},${0.6 * r}l${-0.6 * r},${0.6 * r}l${0.6 * r},${0.6 * r}l${-0.6 * r},${0.6 * r}l${-0.6 * r},${-0.6 * r}l${-0.6 * r},${0.6 * r}l${-0.6 * r},${-0.6 * r}l${0.6 * r},${-0.6 * r}z`,
  };
  let data = JSON.parse(find("data").textContent);

  const variants = () => data.rows.map((one) => one.row).filter((row) => Object.values(data.runs).some((run) => run.variant === row));
  const look = (variant) => {
    const { label, colour, marker } = data.rows.find((one) => one.row === variant);
    return { label, colour: colour === "#000000" ? "currentColor" : colour, shape: SHAPES[marker] };
  };
  const named = (key) => data.columns[key] || data.costs[key] || key.replaceAll("_", " ");
  const metricLabel = (key) => data.metrics[key].label + (data.metrics[key].unit ? ` (${data.metrics[key].unit})` : "");
  const done = (variant) => Object.values(data.runs).filter((run) => run.variant === variant && run.status === "done");
  const shown = (value) => {
    if (value === null || value === undefined) return "n/a";
    if (typeof value !== "number") return typeof value === "object" ? JSON.stringify(value) : String(value);
    return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(6)));
  };

  /* Tables: headers sort within each group of rows, the filter hides rows, cells open their runs. */
  const worth = (row, column) => {
    const cell = row.cells[row.cells.length - column];
    const text = cell.dataset.value ?? cell.textContent;
    const number = Number(text);
    return text.trim() === "" || cell.classList.contains("hole") ? null : Number.isNaN(number) ? text : number;
  };
  const sortBy = (table, headers, number, way) => {
    for (const header of headers) header.removeAttribute("aria-sort");
    headers[number].setAttribute("aria-sort", way);
    for (const body of table.tBodies) {
      const group = body.querySelector("th[scope=rowgroup]");
      const rows = [...body.rows].map((row) => ({ row, value: worth(row, headers.length - number) }));
      rows.sort((a, b) => {
        if (a.value === null || b.value === null) return (a.value === null) - (b.value === null); // holes last
        const order = typeof a.value === "number" && typeof b.value === "number"
          ? a.value - b.value : String(a.value).localeCompare(String(b.value));
        return way === "descending" ? -order : order;
      });
      for (const { row } of rows) body.append(row);
      if (group) body.rows[0].prepend(group);
    }
  };
  const sorted = new Map(); // by table, the column and the way that the reader chose: kept when it is drawn again
  const armHeaders = (table, key) => {
    const headers = [...table.querySelectorAll("thead th")];
    headers.forEach((header, number) => {
      const button = make("button", { type: "button", title: "Sort" }, header.textContent);
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        sorted.set(key, [number, header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending"]);
        sortBy(table, headers, ...sorted.get(key));
      });
    });
    if (sorted.has(key)) sortBy(table, headers, ...sorted.get(key));
  };
  const armTable = (table, key) => {
    if (table.tFoot) { // beside the table, notes wrap at the window's width
      const notes = make("p", { class: "notes" });
      notes.append(...table.tFoot.rows[0].cells[0].childNodes);
      const before = table.parentElement.nextElementSibling;
      if (before && before.className === "notes") before.remove();
      table.parentElement.after(notes);
      table.deleteTFoot();
    }
    armHeaders(table, key);
    for (const cell of table.querySelectorAll("td[data-runs]")) {
      cell.tabIndex = 0;
      cell.setAttribute("role", "button");
      const open = () => openRuns(cell.dataset.runs.split(" "));
      cell.addEventListener("click", open);
      cell.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); }
      });
    }
  };
  const filter = () => {
    const wanted = find("filter").value.trim().toLowerCase();
    for (const row of document.querySelectorAll("table.report tbody tr")) {
      const names = [row.dataset.row || "", ...[...row.querySelectorAll("th")].map((cell) => cell.textContent)];
      row.hidden = !names.some((name) => name.toLowerCase().includes(wanted));
    }
  };

  /* One run, whole. */
  const pairs = (value, prefix = "") => Object.entries(value || {}).flatMap(([key, inner]) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner) ? pairs(inner, `${prefix}${key}.`) : [[prefix + key, inner]]);
  const list = (title, entries, open = false) => {
    const block = make("details", open ? { open: "" } : {});
    block.append(make("summary", {}, title));
    const table = make("table");
    for (const [key, value] of entries) {
      const row = table.insertRow();
      row.append(make("th", { scope: "row" }, key));
      row.insertCell().textContent = shown(value);
    }
    block.append(table);
    return block;
  };
  const runBody = (id) => {
    const run = data.runs[id];
    const body = make("div", { "data-run": id });
    body.append(make("h3", {}, `${run.variant}, seed ${run.seed}`));
    const facts = [["run", id], ["status", run.status + (run.stale.length ? ` (stale: ${run.stale.join(", ")})` : "")]];
    if (run.why) facts.push(["why", run.why]);
    for (const [key, value] of Object.entries(run.metrics)) facts.push([key in data.metrics ? metricLabel(key) : key, value]);
    if (run.chosen_epoch) facts.push(["chosen epoch", run.chosen_epoch]);
    if (run.wall_seconds) facts.push(["seconds", run.wall_seconds]);
    body.append(list("Result", facts, true));
    const measure = Object.keys(run.curve || {}).find((name) => name.endsWith("_top1")) ;
    if (measure && run.curve.epoch.length > 1) {
      body.append(make("p", { class: "hint" }, `${measure} over epochs`));
      body.append(chart([{ variant: run.variant, points: run.curve.epoch.map((e, i) => [e, run.curve[measure][i]]) }], "epoch", measure));
    }
    body.append(list("Spec", pairs(run.spec)), list("Environment", [...pairs(run.environment), ["data sha256", run.data_sha256]]), list("Cost", pairs(run.cost)));
    run.attempts.forEach((attempt) => body.append(list(`Attempt ${attempt.number}: ${attempt.outcome || "open"}`, pairs(attempt))));
    if (run.log) {
      const block = make("details", { open: "" });
      block.append(make("summary", {}, "The end of its log"), make("pre", {}, run.log));
      body.append(block);
    }
    return body;
  };
  const openRuns = (ids) => {
    const known = ids.filter((id) => id in data.runs);
    find("runname").textContent = known.length === 1 ? `Run ${known[0]}` : `${known.length} runs`;
    find("runbody").replaceChildren(...known.map(runBody));
    if (!find("run").open) find("run").showModal();
    find("run").scrollTop = 0;
  };

  /* Plots. */
  const ticks = (low, high, count = 5) => {
    const rough = (high - low || Math.abs(high) || 1) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const first = Math.ceil(low / step - 1e-9) * step;
    const found = [];
    for (let value = first; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(12)));
    return found;
  };
  const short = (value) => {
    for (const [size, sign] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(4))}${sign}`;
    return String(Number(value.toPrecision(4)));
  };
  const frame = (xs, ys, xlabel, ylabel) => {
    const width = 640, height = 340, left = 62, bottom = 46, top = 12, right = 18;
    const spread = (values) => {
      const low = Math.min(...values), high = Math.max(...values), pad = (high - low || Math.abs(high) || 1) * 0.06;
      return [low - pad, high + pad];
    };
    const [x0, x1] = spread(xs), [y0, y1] = spread(ys);
    const X = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
    const Y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - top - bottom);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${ylabel} against ${xlabel}` });
    for (const v of ticks(x0, x1)) {
      svg.append(draw("line", { class: "grid", x1: X(v), x2: X(v), y1: top, y2: height - bottom }));
      svg.append(draw("text", { x: X(v), y: height - bottom + 16, "text-anchor": "middle" }, short(v)));
    }
    for (const v of ticks(y0, y1)) {
      svg.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: Y(v), y2: Y(v) }));
      svg.append(draw("text", { x: left - 6, y: Y(v) + 4, "text-anchor": "end" }, short(v)));
    }
    svg.append(draw("path", { class: "axis", fill: "none", d: `M${left},${top}V${height - bottom}H${width - right}` }));
    svg.append(draw("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xlabel));
    svg.append(draw("text", { x: 14, y: (height - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(height - bottom) / 2})` }, ylabel));
    return { svg, X, Y };
  };
  const chart = (series, xlabel, ylabel) => {
    const points = series.flatMap((one) => [...one.points, ...(one.low || []), ...(one.high || [])]).filter(([, y]) => y !== null);
    if (!points.length) return make("p", { class: "hint" }, "Nothing to draw yet.");
    const { svg, X, Y } = frame(points.map((p) => p[0]), points.map((p) => p[1]), xlabel, ylabel);
    for (const one of series) {
      const { colour } = look(one.variant);
      const path = (list) => list.filter(([, y]) => y !== null).map(([x, y]) => `${X(x)},${Y(y)}`).join("L");
      if (one.low) svg.append(draw("path", { d: `M${path(one.low)}L${path([...one.high].reverse())}Z`, fill: colour, opacity: 0.15 }));
      const line = draw("path", { d: `M${path(one.points)}`, fill: "none", stroke: colour, "stroke-width": 2 });
      line.append(draw("title", {}, one.variant));
      svg.append(line);
    }
    return svg;
  };
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const deviation = (values) => Math.sqrt(values.reduce((a, b) => a + (b - mean(values)) ** 2, 0) / (values.length - 1));
  const scatter = () => {
    const [x, y] = [find("x").value, find("y").value];
    const rows = variants().map((variant) => {
      const runs = done(variant).filter((run) => y in run.metrics);
      const across = runs.map((run) => run.cost[x] ?? run[x]).filter((value) => value !== undefined && value !== null);
      const up = runs.map((run) => run.metrics[y]);
      return { variant, up, x: across.length ? mean(across) : null, ids: Object.keys(data.runs).filter((id) => data.runs[id].variant === variant) };
    }).filter((row) => row.up.length && row.x !== null);
    if (!rows.length) return find("scatter").replaceChildren(make("p", { class: "hint" }, "Nothing to draw yet."));
    const bars = rows.map((row) => [mean(row.up), row.up.length > 1 ? deviation(row.up) : 0]);
    const { svg, X, Y } = frame(rows.map((row) => row.x), bars.flatMap(([m, s]) => [m - s, m + s]), named(x), metricLabel(y));
    rows.forEach((row, number) => {
      const [m, s] = bars[number], { label, colour, shape } = look(row.variant);
      const mark = draw("g", { tabindex: 0, role: "button", "aria-label": `${label}: ${shown(m)}` });
      if (s) mark.append(draw("line", { x1: X(row.x), x2: X(row.x), y1: Y(m - s), y2: Y(m + s), stroke: colour, "stroke-width": 1.5 }));
      mark.append(draw("path", { d: shape(X(row.x), Y(m), 5), fill: colour }), draw("title", {}, `${label}: ${shown(m)}, n=${row.up.length}`));
      mark.style.cursor = "pointer";
      mark.addEventListener("click", () => openRuns(row.ids));
      mark.addEventListener("keydown", (event) => { if (event.key === "Enter") openRuns(row.ids); });
      svg.append(mark);
    });
    find("scatter").replaceChildren(svg);
  };
  const curves = () => {
    const name = find("curve").value;
    const series = variants().map((variant) => {
      const runs = Object.values(data.runs).filter((run) => run.variant === variant && run.curve && run.curve[name]);
      const epochs = [...new Set(runs.flatMap((run) => run.curve.epoch))].sort((a, b) => a - b);
      const at = (epoch) => runs.map((run) => run.curve[name][run.curve.epoch.indexOf(epoch)]).filter((v) => v !== undefined && v !== null);
      const used = epochs.filter((epoch) => at(epoch).length);
      const many = runs.length > 1;
      return { variant, points: used.map((e) => [e, mean(at(e))]), low: many && used.map((e) => [e, Math.min(...at(e))]), high: many && used.map((e) => [e, Math.max(...at(e))]) };
    }).filter((one) => one.points.length);
    const words = data.curves_left_out ? make("p", { class: "hint" }, `Curves are left out: ${data.curves_left_out}.`) : chart(series, "Epoch", named(name));
    find("curves").replaceChildren(words);
  };
  const legend = () => {
    find("legend").replaceChildren(...variants().map((variant) => {
      const { label, colour, shape } = look(variant), item = make("li"), svg = draw("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" });
      svg.append(draw("path", { d: shape(8, 8, 5), fill: colour }));
      item.append(svg, ` ${label}`);
      return item;
    }));
  };
  const choose = (id, values, wanted) => {
    const before = find(id).value || wanted;
    const word = (value) => data.metrics[value] ? data.metrics[value].label : named(value);
    find(id).replaceChildren(...values.map((value) => make("option", { value }, word(value))));
    if (values.includes(before)) find(id).value = before;
  };

  /* Runs and what is said of them all. */
  const runTable = () => {
    const place = Object.fromEntries(data.rows.map((one, number) => [one.row, number]));
    const byRow = ([, a], [, b]) => place[a.variant] - place[b.variant] || a.seed - b.seed;
    const table = find("runtable"), names = Object.keys(data.metrics), wanted = find("state").value;
    const header = make("tr");
    for (const text of ["Variant", "Seed", "Status", ...names.map(metricLabel), "Seconds", "Run"]) header.append(make("th", { scope: "col" }, text));
    table.tHead.replaceChildren(header);
    const rows = Object.entries(data.runs).filter(([, run]) => wanted === "all" || run.status === wanted || (wanted === "stale" && run.stale.length));
    table.tBodies[0].replaceChildren(...rows.sort(byRow).map(([id, run]) => {
      const row = make("tr");
      const number = (value) => row.append(make("td", typeof value === "number" ? { "data-value": value } : { class: "hole" }, shown(value)));
      row.append(make("th", { scope: "row" }, run.variant));
      number(run.seed);
      const words = run.status + (run.heartbeat ? `, epoch ${run.heartbeat}` : "") + (run.stale.length ? ", stale" : "");
      row.append(make("td", { class: run.status }, words));
      for (const value of [...names.map((key) => run.metrics[key]), run.wall_seconds]) number(value);
      const open = make("button", { type: "button", "data-open": id }, id);
      open.addEventListener("click", () => openRuns([id]));
      const last = make("td");
      last.append(open);
      row.append(last);
      return row;
    }));
    armHeaders(table, "runs");
  };
  const counts = () => {
    const found = {};
    for (const run of Object.values(data.runs)) found[run.status] = (found[run.status] || 0) + 1;
    const stale = Object.values(data.runs).filter((run) => run.stale.length).length;
    const parts = Object.entries(found).sort().map(([state, count]) => `${count} ${state}`);
    find("standing").textContent = `${parts.join(", ")}${stale ? `, ${stale} stale` : ""} of ${Object.keys(data.runs).length} runs`;
    choose("state", ["all", ...Object.keys(found).sort(), ...(stale ? ["stale"] : [])], "all");
  };
  const show = () => {
    const runs = Object.values(data.runs);
    const costs = [...new Set(runs.flatMap((run) => Object.keys(run.cost)))].sort();
    choose("x", [...costs, "wall_seconds"], "macs");
    choose("y", Object.keys(data.metrics).filter((key) => runs.some((run) => key in run.metrics)), "top1");
    const lines = [...new Set(runs.flatMap((run) => Object.keys(run.curve || {})))].filter((key) => key !== "epoch");
    choose("curve", lines, lines.find((key) => key.endsWith("_top1")) || lines[0]);
    counts(); scatter(); curves(); legend(); runTable();
    find("commands").textContent = data.commands.join("\n");
  };

  document.querySelectorAll("table.report").forEach(armTable); // by their place
  find("filter").addEventListener("input", filter);
  for (const id of ["x", "y"]) find(id).addEventListener("change", scatter);
  find("curve").addEventListener("change", curves);
  find("state").addEventListener("change", runTable);
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { find("theme").textContent = dark() ? "Light" : "Dark"; find("theme").setAttribute("aria-pressed", String(dark())); };
  find("theme").addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; nameTheme(); });
  nameTheme();
  show();

  /* Served, the page fetches itself again: tables and runs change, what the reader chose stays. */
  const live = document.body.dataset.live;
  if (live) {
    let tag = null;
    setInterval(async () => {
      try {
        const answer = await fetch(live, { headers: tag ? { "If-None-Match": tag } : {} });
        if (answer.status !== 200) return;
        tag = answer.headers.get("ETag");
        const fresh = await answer.json();
        data = fresh.data;
        const holder = make("template");
        holder.innerHTML = fresh.tables;
        const old = document.querySelectorAll("#tables .scroll");
        holder.content.querySelectorAll(".scroll").forEach((node, number) => { if (old[number]) old[number].replaceWith(node); });
        document.querySelectorAll("table.report").forEach(armTable);
        filter();
        show();
      } catch { find("standing").textContent = "The server does not answer; what is shown is the last state."; }
    }, 2000);
  }
})();
