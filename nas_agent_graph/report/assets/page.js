// The page itself: the overview or one run, by the address; the keyboard; a new look while a search runs.

const app = document.getElementById("app");
const RELOAD_MS = Math.min(30, Math.max(5, document.getElementById("data").textContent.length / 4e5)) * 1000;
const STALE_MS = 5 * 60 * 1000;
let shown = null;
let drawn = 0;

function overview(width) {
  const facts = [
    [`${count(search.finished)} of ${count(search.max_runs)}`, "runs finished"],
    [count(search.accepted), "accepted"],
    search.repeats ? [count(search.repeats), search.repeats === 1 ? "repeat" : "repeats"] : null,
    search.pruned ? [count(search.pruned), "stopped early"] : null,
    [count(search.failed), "without a score"],
    [duration(search.seconds + (report.refit_seconds || 0)), "of training"],
    search.tokens ? [count(search.tokens), "tokens"] : null,
    search.tokens ? [known(search.cost) ? money(search.cost) : "not known", "cost"] : null,
  ].filter(Boolean);
  const say = (line) => html("p", { class: line.tone || null }, line.text);
  const warnings = [...search.headline, ...search.card, ...search.remarks].filter((line) => line.tone);
  const best = runById.get(search.best_run);
  const data = search.data || {};
  const cut = report.left_out;
  return html("div", { class: "overview" },
    html("header", {},
      html("p", { class: "eyebrow" }, "architecture search", html("span", { class: "stamp" }, `as of ${moment(report.generated)}`), liveness()),
      html("h1", { tabindex: "-1" }, report.name),
      best ? html("p", { class: "lead" }, ...handedOver(best), html("a", { href: "#" + best.run_id }, best.run_id),
        ` (${best.family || "unknown family"}) with ${search.metric} `, bestScore(best)) : null,
      warnings.length ? html("div", { class: "warnings", role: "note" }, warnings.map(say)) : null,
      html("dl", { class: "figures" }, facts.map(([value, label]) => html("div", {}, html("dt", {}, label), html("dd", {}, value)))),
      html("div", { class: "judgement" },
        search.goal ? html("p", {}, `Task: ${search.goal}.`) : null,
        data.name ? html("p", {}, `Data: ${data.name}${data.kind && data.kind !== data.name ? ` (${data.kind})` : ""}, sha256 `,
          html("code", { title: data.sha256 }, String(data.sha256 || "unknown").slice(0, 12)), ".") : null,
        search.card.filter((line) => !line.tone).map(say),
        search.remarks.filter((line) => !line.tone).map(say), search.calibration.map((text) => html("p", {}, text)))),
    conclusion ? conclusionSection(width) : null,
    html("section", { "aria-label": "Progress" }, html("h2", {}, "Progress"), searchChart(width)),
    accuracySection(width),
    report.timeline ? html("section", { id: "timeline", "aria-label": "Timeline" }, html("h2", {}, "Timeline"), timelineChart(width)) : null,
    tableSection(),
    html("footer", {},
      cut.characters || cut.pictures ? html("p", {}, "Left out to keep this page small: ",
        [cut.characters ? `${count(cut.characters)} characters of conversations` : "",
          cut.pictures ? `${plural(cut.pictures, "picture")} (${bytes(cut.picture_bytes)})` : ""].filter(Boolean).join(", "),
        ". All of it is in the runs' folders.") : null,
      html("p", { class: "keys" }, [["/", "find"], ["j k", "next, previous"], ["Enter", "open"], ["Esc", "back"]].map(([key, words]) =>
        html("span", {}, html("kbd", {}, key), " ", words)))));
}

/** The score that may be expected of the best run: over fresh seeds, else over all. */
/** What is recommended, before the link to the best run. */
function handedOver(best) {
  const handed = report.recommended && report.recommended.name;
  const ensemble = report.ensemble;
  if (ensemble) return [`Recommended: the mean of ${ensemble.members} models, with ${search.metric} `, html("strong", {}, score(ensemble.val_score)), "; the best run: "];
  if (conclusion && handed && handed !== best.run_id) return [`Recommended: ${handed}, a baseline; the best run: `];
  return [conclusion ? "Recommended: " : "Best: "];
}

function bestScore(best) {
  const fresh = conclusion && conclusion.fresh;
  if (fresh && known(fresh.mean)) return [html("b", {}, score(fresh.mean)), `, the mean over ${plural(fresh.seeds, "fresh seed")}.`];
  return [html("b", {}, score(search.best)), best.seeds > 1 ? `, the mean over ${plural(best.seeds, "seed")}.` : "."];
}

function liveness() {
  if (!report.live) return search.finished < search.max_runs ? html("span", { class: "live off" }, "not running") : null;
  const [first, ...others] = [...runs.filter((run) => run.running).map((run) => run.run_id), ...search.repeats_running];
  const names = first ? `: ${first}${others.length ? ` and ${count(others.length)} more` : ""}` : "";
  return html("span", { class: "live" }, isStale() ? "was running then" : "running" + names);
}
const isStale = () => Date.now() - Date.parse(report.generated) > STALE_MS;

/** #run_0007 or #run_0007/log. */
function place() {
  let path = location.hash.slice(1);
  try { path = decodeURIComponent(path); } catch { /* a broken escape names no run */ }
  const [id, section] = path.split("/");
  return { run: runById.get(id) || null, section, path };
}

function draw() {
  const { run, section, path } = place();
  const width = Math.floor(app.getBoundingClientRect().width - parseFloat(getComputedStyle(app).paddingLeft) * 2);
  const first = shown === null;
  const moved = run !== shown;
  const leaving = shown;
  if (moved || drawn !== width) {
    app.replaceChildren(run ? runPage(run, width) : overview(width));
    document.title = run ? `${run.run_id}: ${report.name}` : `${report.name}: search report`;
    drawn = width;
    shown = run || undefined;
    highlight();
  }
  if (run && section) {
    const target = document.getElementById(section);
    const folded = target && target.querySelector(":scope > details");
    if (folded) folded.open = true;
    if (target && (moved || !first)) target.scrollIntoView();
  } else if (moved && !first) {
    if (run) { scrollTo(0, 0); document.getElementById("title").focus({ preventScroll: true }); }
    else select(leaving);
  } else if (!run && path === "runs") document.getElementById("runs").scrollIntoView();
}

/** Highlight the text that was searched for, without changing it. */
function highlight() {
  if (!window.CSS || !CSS.highlights) return;
  CSS.highlights.delete("found");
  const words = view.query.trim().toLowerCase();
  if (!words || !shown) return;
  const found = [];
  const walker = document.createTreeWalker(app, NodeFilter.SHOW_TEXT);
  while (walker.nextNode() && found.length < 500) {
    const text = walker.currentNode.data.toLowerCase();
    for (let at = text.indexOf(words); at >= 0 && found.length < 500; at = text.indexOf(words, at + words.length)) {
      if (text.length !== walker.currentNode.length) break;
      const range = new Range();
      range.setStart(walker.currentNode, at);
      range.setEnd(walker.currentNode, at + words.length);
      found.push(range);
      const folded = walker.currentNode.parentElement.closest("details");
      if (folded) folded.open = true;
    }
  }
  CSS.highlights.set("found", new Highlight(...found));
}

// The browser keeps this across reloads, for this tab alone.
function remember() {
  try { history.replaceState({ view }, ""); } catch { /* refused: the next reload starts over */ }
}
function recall() {
  const stored = history.state && history.state.view;
  for (const name of Object.keys(view)) if (stored && typeof stored[name] === typeof view[name]) view[name] = stored[name];
  if (!columns.some(({ key }) => key === view.sort)) view.sort = "val_score";
  if (view.status && !statusFilters[view.status]) view.status = "";
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (shown) location.hash = "";
    return;
  }
  if (typing) {
    if (event.key === "Enter" && event.target.id === "find" && order.length) location.hash = order[0].run_id;
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    if (shown) location.hash = "";
    // The overview is drawn by then.
    setTimeout(() => document.getElementById("find").focus());
    return;
  }
  if (event.key === "Enter" && !shown && selected && !event.target.closest("a, button")) location.hash = selected.run_id;
  const forward = event.key === "j" || event.key === (shown ? "ArrowRight" : "ArrowDown");
  const back = event.key === "k" || event.key === (shown ? "ArrowLeft" : "ArrowUp");
  if (!forward && !back) return;
  // In the overview the arrows scroll, until a row has been chosen with j or k.
  if (!shown && event.key.startsWith("Arrow") && !selected) return;
  const at = order.indexOf(shown || selected);
  const next = order[at < 0 ? 0 : at + (forward ? 1 : -1)];
  if (!next) return;
  event.preventDefault();
  if (shown) location.hash = next.run_id;
  else select(next);
}

/** Load the file again while a search runs, unless somebody types or marks text. */
function reloadLater() {
  if (!report.live || isStale()) return;
  setTimeout(function again() {
    const busy = document.activeElement && document.activeElement.matches("input, select");
    if (busy || String(getSelection())) setTimeout(again, 1000);
    else location.reload();
  }, RELOAD_MS);
}

recall();
arrange();
draw();
addEventListener("hashchange", () => { remember(); draw(); });
addEventListener("keydown", onKey);
let waiting = 0;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 120); });
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  for (const folded of unfolded) folded.open = true;
});
addEventListener("afterprint", () => { for (const folded of unfolded) folded.open = false; });
reloadLater();
