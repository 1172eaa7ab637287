"use strict";
(() => {
  const root = document.documentElement;
  const one = (query, inside) => (inside || document).querySelector(query);
  const all = (query, inside) => [...(inside || document).querySelectorAll(query)];
  const figures = new Map(); // element -> {doc, plot, draw}
  let page = null, span = [0, 1], view = [0, 1], busy = false;

  // Light and dark

  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

  function roles() {
    const c = Object.fromEntries(
      ["soft", "edge", "grid", "line", "band", "critical", "warning", "back", "gone", "onset", "bg", "early", "middle", "late"]
        .map((name) => [name, colour(name)]));
    const stroke = (paint) => ({line_color: paint});
    const filled = (paint, inner) => ({line_color: paint, fill_color: inner || paint});
    return {
      axis: {axis_line_color: c.edge, major_tick_line_color: c.edge, major_label_text_color: c.soft,
        major_label_text_font_size: "11px", major_tick_in: 0, major_tick_out: 4},
      grid: {grid_line_color: c.grid},
      line: stroke(c.line), dots: filled(c.line), band: {fill_color: c.band, line_color: null},
      gone: {fill_color: c.gone, line_color: null}, onset: stroke(c.onset), lag: stroke(c.onset),
      cursor: stroke(c.soft), label: {text_color: c.soft}, bad: filled(c.critical), cell: {fill_color: c.line},
      early: filled(c.early), middle: filled(c.middle), late: filled(c.late),
      critical: filled(c.critical), warning: filled(c.warning, c.bg), back: filled(c.back, c.bg),
    };
  }

  function paint(entry) {
    const table = roles();
    for (const model of entry.plot.references()) {
      for (const tag of model.tags || []) {
        const wanted = table[tag];
        if (!wanted) continue;
        const able = Object.entries(wanted).filter(([name]) => name in model.properties);
        model.setv(Object.fromEntries(able));
      }
    }
  }

  function theme(name) {
    if (name) {
      root.dataset.theme = name;
      try { localStorage.setItem("rlwatch-theme", name); } catch { /* a page from a file may have no storage */ }
    }
    const button = one("#theme");
    button.hidden = false;
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours");
    for (const entry of figures.values()) paint(entry);
  }

  // Data

  const KINDS = {i4: Int32Array, f4: Float32Array, f8: Float64Array};
  function unpack([kind, text]) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return Float64Array.from(new KINDS[kind](bytes.buffer));
  }
  const set = (entry, name, data) => {
    const source = entry.doc.get_model_by_name(name);
    if (source) source.data = data;
  };
  const range = (entry, name) => entry.plot[`${name}_range`];

  function marks(entry) {
    const m = page.marks;
    set(entry, "gone", {x0: m.gone.map((g) => g[0]), x1: m.gone.map((g) => g[1])});
    set(entry, "onset", {x: m.onset});
    for (const kind of ["critical", "warning", "back"]) set(entry, kind, {x: m[kind].map((mark) => mark[0])});
  }

  const drawn = {
    signal(entry, number) {
      const p = page.panels[number];
      const [x, y] = [unpack(p.x), unpack(p.y)];
      const [bx, low, high] = p.band.map(unpack);
      entry.data = {x, y, ends: p.ends, log: p.kind === "log", bad: p.bad};
      set(entry, "line", {x, y});
      set(entry, "dots", x.length <= 60 ? {x, y} : {x: [], y: []});
      set(entry, "band", {x: bx, low, high});
      set(entry, "bad", {x: p.bad.map((b) => b[0]), y: p.bad.map(() => p.ends[1])});
      marks(entry);
    },
    events(entry) {
      const m = page.marks;
      entry.factors = entry.plot.y_range.factors = m.factors;
      entry.plot.height = 34 + 20 * m.factors.length;
      set(entry, "gone", {x0: m.gone.map((g) => g[0]), x1: m.gone.map((g) => g[1])});
      const lags = [...m.critical, ...m.warning].filter((mark) => mark[3] !== null && mark[3] < mark[0]);
      set(entry, "lag", {x0: lags.map((l) => l[3]), x1: lags.map((l) => l[0]), y: lags.map((l) => l[1])});
      for (const kind of ["critical", "warning", "back"]) {
        const told = m[kind];
        set(entry, kind, {x: told.map((t) => t[0]), y: told.map((t) => t[1]), what: told.map((t) => t[1]), says: told.map((t) => t[2])});
      }
    },
    heat(entry) {
      const h = page.heat;
      const cells = Object.fromEntries(["left", "right", "bottom", "top", "share"].map((name) => [name, unpack(h[name])]));
      set(entry, "cell", {...cells, alpha: cells.share.map((share) => 0.06 + 0.94 * Math.sqrt(share))});
      entry.plot.y_range.setv({start: h.ends[0], end: h.ends[1]});
      marks(entry);
    },
    scatter(entry) {
      const s = page.scatter;
      for (const [name, columns] of Object.entries(s.parts)) {
        const [x, y, step] = columns.map(unpack);
        set(entry, name, {x, y, step});
      }
      entry.plot.x_range.setv({start: s.ends[0][0], end: s.ends[0][1]});
      entry.plot.y_range.setv({start: s.ends[1][0], end: s.ends[1][1]});
      entry.free = true;
    },
  };

  // Drawings

  async function embed(figure) {
    const number = Number(figure.dataset.panel || 0);
    const kind = "panel" in figure.dataset ? page.panels[number].kind
      : "events" in figure.dataset ? "events" : "heat" in figure.dataset ? "heat" : "scatter";
    const draw = drawn[kind === "log" ? "signal" : kind];
    const item = structuredClone(page.templates[kind]);
    if (matchMedia("(pointer: coarse)").matches) {
      // A finger that moves over a drawing scrolls the page; the buttons zoom.
      const bar = item.doc.roots[0].attributes.toolbar;
      if (bar) bar.attributes.tools = bar.attributes.tools.filter((tool) => tool.name !== "BoxZoomTool");
    }
    const place = one(".plot", figure);
    const views = await Bokeh.embed.embed_item(item, place);
    const plot = item.doc && Bokeh.documents[Bokeh.documents.length - 1].roots()[0];
    const entry = {doc: plot.document, plot, draw: () => draw(entry, number), figure, view: null};
    entry.view = [...(views || [])].find((found) => found.model === plot) || null;
    figures.set(figure, entry);
    entry.draw();
    paint(entry);
    if (!entry.free) {
      show(entry);
      entry.plot.x_range.change.connect(() => moved(entry));
      place.addEventListener("dblclick", () => look(...span));
      place.addEventListener("pointermove", (event) => point(entry, event));
    }
  }

  let queue = Promise.resolve();
  const seen = new IntersectionObserver((found) => {
    for (const {target, isIntersecting} of found) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      queue = queue.then(() => embed(target)).catch((error) => console.error(error));
    }
  }, {rootMargin: "600px"});

  // Zoom: all drawings over steps show the same ones

  function show(entry) {
    busy = true;
    entry.plot.x_range.setv({start: view[0], end: view[1]});
    busy = false;
    if (entry.factors) set(entry, "label", {x: entry.factors.map(() => view[0]), y: entry.factors});
    if (!entry.data) return;
    const {x, y, ends, log} = entry.data;
    let [low, high] = ends;
    if (view[0] > span[0] || view[1] < span[1]) {
      let least = Infinity, most = -Infinity;
      for (let i = 0; i < x.length; i++) {
        if (x[i] < view[0] || x[i] > view[1]) continue;
        least = Math.min(least, y[i]);
        most = Math.max(most, y[i]);
      }
      if (least <= most) {
        const margin = 0.08 * (most - least) || 0.1 * (Math.abs(most) || 1);
        [low, high] = log ? [least / 1.1, most * 1.1] : [least - margin, most + margin];
      }
    }
    entry.plot.y_range.setv({start: low, end: high});
    set(entry, "bad", {x: entry.data.bad.map((b) => b[0]), y: entry.data.bad.map(() => high)});
  }

  function look(first, last) {
    const least = Math.min(4, span[1] - span[0]);
    let width = Math.min(Math.max(last - first, least), span[1] - span[0]);
    first = Math.min(Math.max(first, span[0]), span[1] - width);
    view = [first, first + width];
    for (const entry of figures.values()) if (!entry.free) show(entry);
    where();
  }

  function moved(entry) {
    if (busy) return;
    const {start, end} = entry.plot.x_range;
    requestAnimationFrame(() => look(start, end));
  }

  function zoom(how) {
    const [first, last] = view, width = last - first, middle = (first + last) / 2;
    if (how === "in") look(middle - width / 4, middle + width / 4);
    else if (how === "out") look(middle - width, middle + width);
    else if (how === "left") look(first - width / 3, last - width / 3);
    else if (how === "right") look(first + width / 3, last + width / 3);
    else look(...span);
  }

  // Reading values at a step

  let cursor = null, waiting = false;
  const shown = (value) => {
    const size = Math.abs(value);
    if (!Number.isFinite(value)) return String(value);
    if (Number.isInteger(value) && size < 1e5) return value.toLocaleString("en");
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : String(Number(value.toPrecision(4)));
  };
  function nearest(x, step) {
    let low = 0, high = x.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x[middle] < step) low = middle + 1; else high = middle;
    }
    return low > 0 && step - x[low - 1] < x[low] - step ? low - 1 : low;
  }
  function point(entry, event) {
    const frame = entry.view && entry.view.frame;
    if (!frame) return;
    const box = one(".plot > *", entry.figure).getBoundingClientRect();
    const at = event.clientX - box.left;
    if (at < frame.bbox.left || at > frame.bbox.right) return;
    read(Math.round(frame.x_scale.invert(at)));
  }
  function read(step) {
    cursor = step;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      one("#cursor").value = cursor;
      for (const entry of figures.values()) {
        if (entry.free) continue;
        set(entry, "cursor", {x: [cursor]});
        if (!entry.data) continue;
        const {x, y, bad} = entry.data;
        const label = one("[data-reading]", entry.figure);
        const wrong = bad.find((b) => b[0] === cursor);
        if (wrong) label.textContent = `${wrong[1]} at ${cursor}`;
        else if (x.length) {
          const i = nearest(x, cursor);
          label.textContent = `${shown(y[i])} at ${x[i].toLocaleString("en")}`;
        }
      }
      where();
    });
  }
  function where() {
    const [first, last] = view.map(Math.round);
    one("#where").textContent = view[0] > span[0] || view[1] < span[1]
      ? `steps ${first.toLocaleString("en")} to ${last.toLocaleString("en")}` : "";
  }

  // The page

  function load() {
    const text = one("#data");
    page = text ? JSON.parse(text.textContent) : null;
    if (!page) return;
    const {first, last} = page.marks;
    const whole = view[0] <= span[0] && view[1] >= span[1];
    const margin = 0.005 * (last - first) || 0.5;
    span = [first - margin, last + margin];
    if (whole) view = [...span];
    const field = one("#cursor");
    if (field) [field.min, field.max] = [first, last];
  }
  const unseen = () => all("[data-panel], [data-events], [data-heat], [data-scatter]").filter((figure) => !figures.has(figure));

  function begin() {
    let kept = null;
    try { kept = localStorage.getItem("rlwatch-theme"); } catch { /* see above */ }
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
    theme();
    one("#theme").addEventListener("click", () => theme(dark() ? "light" : "dark"));
    system.addEventListener("change", () => theme());
    span = view = [0, 1];
    load();
    if (page && window.Bokeh) {
      Bokeh.set_log_level("error");
      if (one("#controls")) controls();
      unseen().forEach((figure) => seen.observe(figure));
    }
    if (document.body.dataset.live) setTimeout(news, 4000);
  }

  function controls() {
    const bar = one("#controls");
    bar.hidden = false;
    bar.addEventListener("click", (event) => event.target.dataset.zoom && zoom(event.target.dataset.zoom));
    one("#cursor").addEventListener("input", (event) => event.target.value !== "" && read(Number(event.target.value)));
  }

  // Live: a server keeps the page current

  let stamp = null, failed = 0;
  async function news() {
    const pulse = one("#pulse");
    try {
      const state = await (await fetch(document.body.dataset.live, {cache: "no-store"})).json();
      if (stamp !== null && state.stamp !== stamp && !document.hidden) await renew();
      if (stamp === null || !document.hidden) stamp = state.stamp;
      failed = 0;
      pulse.textContent = state.running ? "live" : "";
    } catch {
      failed += 1;
      pulse.textContent = "no connection";
    }
    setTimeout(news, Math.min(60, 4 * 2 ** failed) * 1000);
  }
  async function renew() {
    const answer = await fetch(location.href, {cache: "no-store"});
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const structure = (from) => all("[data-panel], [data-events], [data-heat], [data-scatter]", from)
      .map((figure) => one(".name", figure)?.textContent).join();
    if (one("#data") && structure(fresh) !== structure(document)) return location.reload();
    for (const part of all("[data-part]", fresh)) {
      const old = one(`[data-part="${part.dataset.part}"]`);
      if (!old) return location.reload();
      if (old.innerHTML === part.innerHTML) continue;
      const open = all("details", old).map((detail) => detail.open);
      old.className = part.className;
      old.innerHTML = part.innerHTML;
      all("details", old).forEach((detail, i) => { if (i < open.length) detail.open = open[i]; });
    }
    const data = one("#data", fresh);
    if (data && one("#data")) {
      one("#data").textContent = data.textContent;
      load();
      for (const entry of figures.values()) {
        entry.draw();
        if (!entry.free) show(entry);
      }
      const readings = all("[data-reading]", fresh);
      if (cursor === null) all("[data-reading]").forEach((label, i) => { label.textContent = readings[i].textContent; });
    }
    document.title = fresh.title;
  }

  begin();
})();
