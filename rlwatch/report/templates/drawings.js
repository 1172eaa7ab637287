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

// What is near the window is drawn first, all else while the browser has nothing to do: a print, a picture of the whole
// page and a jump find it drawn. A drawing that nobody can see, in a closed list, waits until the list is opened.

let queue = Promise.resolve();
const asked = new WeakSet();
const seen = new IntersectionObserver(
  (found) => found.forEach(({target, isIntersecting}) => isIntersecting && order(target)), {rootMargin: "600px"});

function order(figure) {
  seen.unobserve(figure);
  if (asked.has(figure)) return queue;
  asked.add(figure);
  queue = queue.then(() => embed(figure)).catch((error) => console.error(error));
  return queue;
}

const idle = window.requestIdleCallback || ((then) => setTimeout(then, 60));
function rest() {
  const next = unseen().find((figure) => !asked.has(figure) && figure.checkVisibility?.() !== false);
  if (next) idle(() => order(next).then(rest));
}
