"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const filled = (node, attributes, text) => {
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== "") node.textContent = text;
    return node;
  };
  const make = (tag, attributes = {}, text = "") => filled(document.createElement(tag), attributes, text);
  const draw = (tag, attributes, text = "") => filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, text);
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
  const DASHES = { "-": "none", "--": "7 3", ":": "2 2.5", "-.": "8 3 2 3" };
  let data = JSON.parse(find("data").textContent);
  let rows, idsOf; // by name, each row and its runs: looked up once, since there may be thousands
  const index = () => {
    rows = new Map([...data.rows, ...data.others].map((one, place) => [one.row, { ...one, place }]));
    idsOf = new Map([...rows.keys()].map((row) => [row, []]));
    for (const [id, run] of Object.entries(data.runs)) for (const row of run.variants) idsOf.get(row).push(id);
  };
  const look = (variant) => {
    const { label, colour, marker, line } = rows.get(variant);
    return { label, colour: colour === "#000000" ? "currentColor" : colour, shape: SHAPES[marker], dashes: DASHES[line] };
  };
  const rowsOf = (run) => run.variants.map((row) => look(row).label).join(", ");
  const named = (key) => data.columns[key] || data.costs[key] || key.replaceAll("_", " ");
  const metricLabel = (key) => data.metrics[key].header;
  const done = (variant) => idsOf.get(variant).map((id) => data.runs[id]).filter((run) => run.status === "done");
  const times = (count) => ["", "once", "twice"][count] || `${count} times`;
  const extreme = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
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
  const words = new Intl.Collator(); // a hundred times faster than localeCompare
  // What is null comes last, whichever way; so do words in a column of numbers, such as `baseline`.
  const inOrder = (items, valueOf, way, isNumeric) => {
    const sign = way === "descending" ? -1 : 1;
    const valued = items.map((item) => ({ item, value: valueOf(item) }));
    for (const one of valued) if (one.value === undefined || (isNumeric && typeof one.value !== "number")) one.value = null;
    valued.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
      return sign * (isNumeric ? a.value - b.value : words.compare(String(a.value), String(b.value)));
    });
    return valued.map(({ item }) => item);
  };
  const mark = (headers, number, way) => headers.forEach((header, i) => {
    if (i === number) header.setAttribute("aria-sort", way); else header.removeAttribute("aria-sort");
  });
  const groupOf = (body) => body.querySelector("th[scope=rowgroup]");
  // A group's name stands in the first visible row and spans those that are visible: else columns would move.
  const placeGroups = (table) => {
    for (const body of table.tBodies) {
      const group = groupOf(body), visible = [...body.rows].filter((row) => !row.hidden);
      if (!group || !visible.length) continue;
      group.rowSpan = visible.length;
      visible[0].prepend(group);
    }
  };
  const sortBy = (table, headers, number, way) => {
    mark(headers, number, way);
    const bodies = [...table.tBodies], byGroup = number === 0 && groupOf(bodies[0]);
    const value = byGroup ? (body) => worth(groupOf(body).parentElement, headers.length) : (row) => worth(row, headers.length - number);
    const isNumeric = (byGroup ? bodies : bodies.flatMap((body) => [...body.rows])).some((one) => typeof value(one) === "number");
    if (byGroup) return table.append(...inOrder(bodies, value, way, isNumeric));
    for (const body of bodies) body.append(...inOrder([...body.rows], value, way, isNumeric));
    placeGroups(table);
  };
  const sorted = new Map(); // by table, the column and the way that the reader chose: kept when it is drawn again
  const armHeaders = (table, key, sort) => {
    const headers = [...table.querySelectorAll("thead th")];
    headers.forEach((header, number) => {
      const button = make("button", { type: "button", title: "Sort" }, header.textContent);
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        sorted.set(key, [number, header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending"]);
        sort(headers, ...sorted.get(key));
      });
    });
    const [number, way] = sorted.get(key) || [];
    if (number < headers.length) sort(headers, number, way);
  };
  const arm = (node, ids) => {
    filled(node, { tabindex: 0, role: "button" }, "");
    node.addEventListener("click", () => openRuns(ids));
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); openRuns(ids); }
    });
  };
  const idsIn = (node) => [node.dataset.runs, node.dataset.baselineRuns].flatMap((text) => (text || "").split(" "));
  const armTable = (table) => {
    if (table.tFoot) { // beside the table, notes wrap at the window's width
      const notes = make("p", { class: "notes" });
      notes.append(...table.tFoot.rows[0].cells[0].childNodes);
      table.parentElement.after(notes);
      table.deleteTFoot();
    }
    table.style.setProperty("--columns", table.rows[0].cells.length);
    armHeaders(table, `#${table.id}`, (headers, number, way) => sortBy(table, headers, number, way));
    for (const cell of table.querySelectorAll("td[data-runs]")) arm(cell, idsIn(cell));
    for (const row of table.querySelectorAll("tr[data-runs]:not([data-runs=''])")) {
      const name = row.querySelector("th[scope=row]"), button = make("button", { type: "button", title: "Its runs" });
      button.append(...name.childNodes);
      button.addEventListener("click", () => openRuns(idsIn(row)));
      name.append(button);
    }
  };
  const matches = (names) => {
    const wanted = find("filter").value.trim().toLowerCase();
    return names.some((name) => name.toLowerCase().includes(wanted));
  };
  const filter = () => {
    for (const table of document.querySelectorAll("table.report")) {
      for (const row of table.querySelectorAll("tbody tr")) {
        const names = [row.querySelector("th[scope=row]"), groupOf(row.parentElement)].filter(Boolean);
        row.hidden = !matches([row.dataset.row, ...names.map((cell) => cell.textContent)]);
      }
      placeGroups(table);
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
      table.insertRow().append(make("th", { scope: "row" }, key), make("td", {}, shown(value)));
    }
    block.append(table);
    return block;
  };
  const standing = (run) => run.status + (run.heartbeat ? `, epoch ${run.heartbeat}` : "")
    + (run.failures && run.status !== "failed" ? `, failed ${times(run.failures)}` : "");
  const runBody = (id) => {
    const run = data.runs[id];
    const body = make("div", { "data-run": id });
    body.append(make("h3", {}, `${rowsOf(run)}, seed ${run.seed}`));
    const facts = [["run", id], ["status", standing(run) + (run.stale.length ? ` (stale: ${run.stale.join(", ")})` : "")]];
    if (run.why) facts.push(["why", run.why]);
    for (const [key, value] of Object.entries(run.metrics)) facts.push([key in data.metrics ? metricLabel(key) : key, value]);
    if (run.chosen_epoch) facts.push(["chosen epoch", run.chosen_epoch]);
    if (run.wall_seconds) facts.push(["seconds", run.wall_seconds]);
    body.append(list("Result", facts, true));
    const measure = Object.keys(run.curve || {}).find((name) => name.endsWith(`_${data.primary}`));
    if (measure && run.curve.epoch.length > 1) {
      body.append(make("p", { class: "hint" }, `${measure} over epochs`));
      body.append(chart([{ variant: run.variants[0], points: run.curve.epoch.map((e, i) => [e, run.curve[measure][i]]) }], "epoch", measure));
    }
    body.append(list("Spec", pairs(run.spec)), list("Environment", [...pairs(run.environment), ["data sha256", run.data_sha256]]), list("Cost", pairs(run.cost)));
    run.attempts.forEach((attempt) => body.append(list(`Attempt ${attempt.number}: ${attempt.outcome || "open"}`, pairs(attempt))));
    const left = data.left_out && run.status === "done" && `Its curve, attempts and log are left out (${data.left_out}); they are in the store.`;
    if (left) body.append(make("p", { class: "hint" }, left));
    if (run.log) {
      const block = make("details", run.status === "done" ? {} : { open: "" });
      block.append(make("summary", {}, "The end of its log"), make("pre", {}, run.log));
      body.append(block);
    }
    return body;
  };
  const openRuns = (ids) => {
    const known = [...new Set(ids)].filter((id) => id in data.runs);
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
      const [low, high] = extreme(values), pad = (high - low || Math.abs(high) || 1) * 0.06;
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
    return { svg, X, Y, right: width - right };
  };
  const chart = (series, xlabel, ylabel) => {
    const points = series.flatMap((one) => [...one.points, ...(one.low || []), ...(one.high || [])]).filter(([, y]) => y !== null);
    if (!points.length) return make("p", { class: "hint" }, "Nothing to draw yet.");
    const { svg, X, Y } = frame(points.map((p) => p[0]), points.map((p) => p[1]), xlabel, ylabel);
    for (const one of series) {
      const { colour, label, dashes } = look(one.variant);
      const path = (list) => list.filter(([, y]) => y !== null).map(([x, y]) => `${X(x)},${Y(y)}`).join("L");
      if (one.low) svg.append(draw("path", { d: `M${path(one.low)}L${path([...one.high].reverse())}Z`, fill: colour, opacity: 0.15 }));
      const line = draw("path", { d: `M${path(one.points)}`, fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dashes });
      line.append(draw("title", {}, label));
      svg.append(line);
    }
    return svg;
  };
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  // As the tables have it, a cost in which a row's runs differ has no value; their seconds have a mean.
  const costOf = (runs, key) => {
    const found = runs.map((run) => run.cost[key] ?? run[key] ?? null).filter((value) => value !== null);
    const isOne = key === "wall_seconds" ? found.length : new Set(found).size === 1;
    return isOne ? mean(found) : null;
  };
  // What none beats: that costs no more and is no worse, and is better in one of the two. Rounding is no difference.
  const front = (points, sign) => {
    const same = (a, b) => Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));
    const beats = (a, b) => {
      const [sameCost, sameWorth] = [same(a.x, b.x), same(a.y, b.y)];
      return (sameCost || a.x < b.x) && (sameWorth || sign * a.y > sign * b.y) && !(sameCost && sameWorth);
    };
    const cheapestFirst = [...points].sort((a, b) => a.x - b.x || sign * (b.y - a.y)); // these beat most others
    return cheapestFirst.filter((point) => !cheapestFirst.some((other) => beats(other, point)));
  };
  const scatter = () => {
    const [x, y] = [find("x").value, find("y").value];
    const points = data.rows.map(({ row, means }) => {
      const across = costOf(done(row), x);
      return means[y] && across !== null ? [{ ...means[y], variant: row, x: across, y: means[y].mean }] : [];
    }).flat();
    if (!points.length) return find("scatter").replaceChildren(make("p", { class: "hint" }, "Nothing to draw yet."));
    const ends = points.flatMap((point) => [point.low ?? point.y, point.high ?? point.y]);
    const { svg, X, Y, right } = frame(points.map((point) => point.x), ends, named(x), metricLabel(y));
    const steps = front(points, data.metrics[y].sign).map((point, i) => `${i ? "H" : "M"}${X(point.x)}${i ? "V" : ","}${Y(point.y)}`);
    svg.append(draw("path", { class: "front", fill: "none", d: `${steps.join("")}H${right}` }));
    for (const point of points) {
      const { label, colour, shape } = look(point.variant), hollow = point.low === null;
      const range = hollow ? "no interval" : `${shown(point.low)} to ${shown(point.high)}`;
      const spot = draw("g", { "aria-label": `${label}: ${shown(point.y)}` });
      if (!hollow) spot.append(draw("line", { x1: X(point.x), x2: X(point.x), y1: Y(point.low), y2: Y(point.high), stroke: colour, "stroke-width": 1.5 }));
      spot.append(draw("path", { d: shape(X(point.x), Y(point.y), 5), fill: hollow ? "var(--paper)" : colour, stroke: colour, "stroke-width": 1.5 }));
      spot.append(draw("title", {}, `${label}: ${shown(point.y)} (${range}), n=${point.n}`));
      arm(spot, idsOf.get(point.variant));
      svg.append(spot);
    }
    find("scatter").replaceChildren(svg);
  };
  const curves = () => {
    const name = find("curve").value;
    const series = data.rows.map(({ row }) => {
      const byEpoch = new Map();
      const runs = idsOf.get(row).map((id) => data.runs[id]).filter((run) => run.curve && run.curve[name]);
      for (const { curve } of runs) curve.epoch.forEach((epoch, i) => {
        if (!byEpoch.has(epoch)) byEpoch.set(epoch, []);
        if (curve[name][i] !== null) byEpoch.get(epoch).push(curve[name][i]);
      });
      const used = [...byEpoch].filter(([, values]) => values.length).sort(([a], [b]) => a - b);
      const band = (side) => runs.length > 1 && used.map(([epoch, values]) => [epoch, extreme(values)[side]]);
      return { variant: row, points: used.map(([epoch, values]) => [epoch, mean(values)]), low: band(0), high: band(1) };
    }).filter((one) => one.points.length);
    find("curves").replaceChildren(data.left_out ? make("p", { class: "hint" }, `Curves are left out: ${data.left_out}.`) : chart(series, "Epoch", named(name)));
  };
  /* Figures of stored predictions. */
  const precision = ({ curves: found, across, up }) => chart(found.map(({ row, mean: line, low, high }) => {
    const points = (values) => values.map((value, recall) => [recall, value]);
    const banded = low.some((value) => value !== null);
    return { variant: row, points: points(line), low: banded && points(low), high: banded && points(high) };
  }), across, up);
  const matrix = ({ down, names, counts: found }) => {
    const table = make("table", { class: "matrix" }), head = table.createTHead().insertRow();
    head.append(...["", ...names].map((name) => make("th", { scope: "col" }, name)));
    const body = table.createTBody();
    found.forEach((line, i) => {
      const row = body.insertRow(), total = Math.max(1, line.reduce((a, b) => a + b, 0));
      row.append(make("th", { scope: "row" }, down[i]));
      line.forEach((count, j) => {
        const share = (100 * count) / total, hole = names.length === down.length && names[j] === "missed" && i === down.length - 1;
        const shade = `background: color-mix(in srgb, var(--accent) ${Math.round(0.7 * share)}%, transparent)`;
        row.append(make("td", hole ? { class: "hole" } : { style: shade, title: `${count} of ${total}` }, !count ? "" : share < 0.5 ? "<1" : String(Math.round(share))));
      });
    });
    const scroll = make("div", { class: "scroll" });
    scroll.append(table);
    return scroll;
  };
  const dots = ({ groups, points, across }) => {
    const shownRows = data.rows.map(({ row }) => row).filter((row) => points.some((group) => row in group));
    const band = 12 + 11 * shownRows.length, left = 150, right = 622, bottom = 12 + band * groups.length;
    const [low, high] = extreme(points.flatMap((group) => Object.values(group).flatMap((three) => three.filter((value) => value !== null))));
    const pad = (high - low || Math.abs(high) || 1) * 0.04;
    const X = (v) => left + ((v - low + pad) / (high - low + 2 * pad)) * (right - left);
    const svg = draw("svg", { viewBox: `0 0 640 ${bottom + 46}`, role: "img", "aria-label": across });
    for (const v of ticks(low, high)) {
      svg.append(draw("line", { class: "grid", x1: X(v), x2: X(v), y1: 12, y2: bottom }));
      svg.append(draw("text", { x: X(v), y: bottom + 16, "text-anchor": "middle" }, short(v)));
    }
    groups.forEach((name, i) => {
      if (i) svg.append(draw("line", { class: "grid", x1: 0, x2: right, y1: 12 + band * i, y2: 12 + band * i }));
      svg.append(draw("text", { x: left - 8, y: 12 + band * (i + 0.5) + 4, "text-anchor": "end" }, name));
      shownRows.forEach((row, place) => {
        if (!(row in points[i])) return;
        const { label, colour, shape } = look(row), [mid, from, to] = points[i][row], y = 12 + band * i + 6 + 11 * (place + 0.5);
        const spot = draw("g", { "aria-label": `${label}, ${name}: ${shown(mid)}` });
        if (from !== null) spot.append(draw("line", { x1: X(from), x2: X(to), y1: y, y2: y, stroke: colour, "stroke-width": 1.5 }));
        spot.append(draw("path", { d: shape(X(mid), y, 4), fill: from === null ? "var(--paper)" : colour, stroke: colour, "stroke-width": 1.5 }));
        spot.append(draw("title", {}, `${label}, ${name}: ${shown(mid)}`));
        arm(spot, idsOf.get(row));
        svg.append(spot);
      });
    });
    svg.append(draw("text", { x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" }, across));
    return svg;
  };
  const DRAWERS = { precision_recall: precision, confusion: matrix, sizes: dots, classes: dots };
  const figures = () => {
    find("figures").replaceChildren(...data.figures.map((one) => {
      const figure = make("figure"), caption = make("figcaption");
      caption.append(make("h3", {}, one.title), make("p", { class: "hint" }, one.caption));
      figure.append(caption, DRAWERS[one.kind](one));
      return figure;
    }));
  };
  const legend = () => {
    find("legend").replaceChildren(...data.rows.map(({ row }) => {
      const { label, colour, shape, dashes } = look(row), item = make("li"), svg = draw("svg", { viewBox: "0 0 32 16", "aria-hidden": "true" });
      svg.append(draw("line", { x1: 0, x2: 32, y1: 8, y2: 8, stroke: colour, "stroke-width": 2, "stroke-dasharray": dashes }));
      svg.append(draw("path", { d: shape(16, 8, 5), fill: colour }));
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
  const MOST_ROWS = 500; // of the runs' table at first: more take a browser seconds
  let all = false;
  const columns = () => [
    ["Variant", rowsOf],
    ["Seed", (run) => run.seed],
    ["Status", (run) => standing(run) + (run.stale.length ? ", stale" : "")],
    ...Object.keys(data.metrics).map((key) => [metricLabel(key), (run) => run.metrics[key]]),
    ["Seconds", (run) => run.wall_seconds],
    ["Run", (run, id) => id],
  ];
  const runRow = (id, run, found) => {
    const row = make("tr");
    found.forEach(([title, value], number) => {
      const what = value(run, id);
      if (number === 0) return row.append(make("th", { scope: "row" }, what));
      if (title === "Status") return row.append(make("td", { class: run.status }, what));
      if (title !== "Run") return row.append(make("td", typeof what === "number" ? {} : { class: "hole" }, shown(what)));
      const open = make("button", { type: "button", "data-open": id }, id), last = make("td");
      open.addEventListener("click", () => openRuns([id]));
      last.append(open);
      row.append(last);
    });
    return row;
  };
  const runTable = () => {
    const table = find("runtable"), wanted = find("state").value, found = columns();
    const isWanted = (run) => wanted === "all" || run.status === wanted || (wanted === "stale" && run.stale.length)
      || (wanted === "failed before" && run.status !== "failed" && run.failures);
    const names = new Map([...rows].map(([row, { label }]) => [row, matches([row, label])]));
    const fill = (number, way) => {
      let ids = Object.keys(data.runs).filter((id) => isWanted(data.runs[id]) && data.runs[id].variants.some((row) => names.get(row)));
      ids.sort((a, b) => {
        const [one, other] = [data.runs[a], data.runs[b]];
        return rows.get(one.variants[0]).place - rows.get(other.variants[0]).place || one.seed - other.seed;
      });
      const value = number === undefined ? null : (id) => found[number][1](data.runs[id], id);
      if (value) ids = inOrder(ids, value, way, ids.some((id) => typeof value(id) === "number"));
      const drawn = all ? ids : ids.slice(0, MOST_ROWS);
      table.tBodies[0].replaceChildren(...drawn.map((id) => runRow(id, data.runs[id], found)));
      find("more").hidden = drawn.length === ids.length;
      find("more").textContent = `Show all ${ids.length.toLocaleString("en")}`;
    };
    table.tHead.replaceChildren(make("tr"));
    table.tHead.rows[0].append(...found.map(([title]) => make("th", { scope: "col" }, title)));
    if (!sorted.has("runs")) fill();
    armHeaders(table, "runs", (headers, number, way) => { mark(headers, number, way); fill(number, way); });
  };
  const counts = () => {
    const found = {};
    for (const run of Object.values(data.runs)) found[run.status] = (found[run.status] || 0) + 1;
    const runs = Object.values(data.runs);
    const stale = runs.filter((run) => run.stale.length).length;
    const before = runs.filter((run) => run.failures && run.status === "pending").length;
    const parts = Object.entries(found).sort().map(([state, count]) => `${count} ${state}${state === "pending" && before ? ` (${before} failed before)` : ""}`);
    find("standing").textContent = `${parts.join(", ")}${stale ? `, ${stale} stale` : ""} of ${runs.length} runs`;
    const again = runs.some((run) => run.failures && run.status !== "failed");
    choose("state", ["all", ...Object.keys(found).sort(), ...(again ? ["failed before"] : []), ...(stale ? ["stale"] : [])], "all");
  };
  const show = () => {
    index();
    const runs = Object.values(data.runs);
    const costs = [...new Set(runs.flatMap((run) => Object.keys(run.cost)))].sort();
    choose("x", [...costs, "wall_seconds"], "macs");
    choose("y", Object.keys(data.metrics).filter((key) => runs.some((run) => key in run.metrics)), data.primary);
    const lines = [...new Set(runs.flatMap((run) => Object.keys(run.curve || {})))].filter((key) => key !== "epoch");
    choose("curve", lines, lines.find((key) => key.endsWith(`_${data.primary}`)) || lines[0]);
    counts(); scatter(); curves(); figures(); legend(); runTable();
    find("commands").textContent = data.commands.join("\n");
  };

  document.querySelectorAll("table.report").forEach(armTable);
  find("filter").addEventListener("input", () => { filter(); runTable(); });
  find("more").addEventListener("click", () => { all = true; runTable(); });
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
        document.querySelectorAll("#tables .scroll, #tables .notes").forEach((node) => node.remove());
        find("tables").append(holder.content);
        document.querySelectorAll("table.report").forEach(armTable);
        filter();
        show();
      } catch { find("standing").textContent = "The server does not answer; what is shown is the last state."; }
    }, 2000);
  }
})();
