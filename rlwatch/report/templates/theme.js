// These files are parts of one function (page.py puts them together): what one declares, all see.

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
