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
