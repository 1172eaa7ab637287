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
