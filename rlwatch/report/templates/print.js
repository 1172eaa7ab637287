// On paper: light colours, and a copy of each drawing that fits the sheet. (Bokeh paints when the window changes, and
// nothing that comes after this event is printed.)

function paper() {
  let kept;
  addEventListener("beforeprint", () => {
    if (one(".printed")) return;
    kept = root.dataset.theme;
    root.dataset.theme = "light";
    for (const [figure, entry] of figures) {
      paint(entry);
      for (const drawing of entry.view?.renderer_views?.values() || []) drawing.set_visuals?.();  // at once, not soon
      const canvas = entry.view?.export("png").canvas;
      if (!canvas?.width) continue;
      canvas.className = "printed";
      canvas.removeAttribute("style");
      one(".plot", figure).append(canvas);
    }
  });
  addEventListener("afterprint", () => {
    all(".printed").forEach((canvas) => canvas.remove());
    if (kept) root.dataset.theme = kept; else delete root.dataset.theme;
    theme();
  });
}
