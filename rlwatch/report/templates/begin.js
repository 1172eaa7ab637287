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
    rest();
    paper();
  }
  if (document.body.dataset.live) setTimeout(news, 4000);
}

function controls() {
  const bar = one("#controls");
  bar.hidden = false;
  bar.addEventListener("click", (event) => event.target.dataset.zoom && zoom(event.target.dataset.zoom));
  one("#cursor").addEventListener("input", (event) => event.target.value !== "" && read(Number(event.target.value)));
}
