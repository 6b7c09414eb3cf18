// The table of runs: sorting, filters, and text search in everything that is known of a run.

const repeated = runs.some((run) => run.seeds > 1);
const columns = [
  { key: "run", label: "run", value: (run) => run.run_id },
  { key: "family", label: "family", value: (run) => run.family },
  { key: "status", label: "status", value: (run) => statusOf(run).rank + statusOf(run).word },
  { key: "val_score", label: search.metric, value: (run) => run.mean, isScore: true, figures: true, hint: repeated ? "mean over the run's seeds" : null },
  { key: "seeds", label: "± sd (n)", value: (run) => run.seeds || null, figures: true, drop: 2, hint: "standard deviation over the run's seeds, and their number" },
  { key: "delta", label: "to best", value: (run) => run.delta, isScore: true, figures: true, hint: `${search.metric} minus the best run's` },
  { key: "delta_noise", label: "in noise", value: (run) => run.delta_noise, isScore: true, figures: true, drop: 3, hint: "the difference to the best run in units of the noise" },
  { key: "test_score", label: "test", value: (run) => run.test_score, isScore: true, figures: true, drop: 2, test: true, hint: "for people; the search never reads it" },
  { key: "proposer", label: "proposed by", value: (run) => run.proposer, drop: 2 },
  { key: "seconds", label: "time", value: (run) => run.seconds, figures: true, drop: 1 },
  { key: "tokens", label: "tokens", value: (run) => run.tokens || null, figures: true, drop: 3 },
  { key: "words", label: "what changed", value: (run) => run.change_summary || run.cause, drop: 1 },
].filter((column) => column.key !== "delta_noise" || search.noise)
  .filter((column) => column.key !== "seeds" || repeated)
  .filter((column) => column.key !== "tokens" || search.tokens);

const view = { sort: "val_score", down: false, query: "", status: "", family: "", proposer: "" };
let order = runs;
let selected = null;

/** Everything that can be found, by where it stands; made when the first search needs it. */
const texts = new Map();
function textsOf(run) {
  if (!texts.has(run)) {
    const parts = [
      ["", [run.run_id, run.family, statusOf(run).word, run.proposer, run.parent, run.summary].filter(Boolean).join(" · ")],
      ["hypothesis", run.hypothesis],
      ["cause", run.cause],
      ["verdict", run.verdict],
      ["changes", run.changes.map((change) => `${change.parameter} ${change.old ?? ""} → ${change.new}`).join("  ")],
      ["configuration", Object.entries(run.config).map(([name, value]) => `${name} = ${value}`).join("  ")],
      ...run.conversation.map((message) => [message.role, message.text]),
      ["log", run.log],
    ];
    texts.set(run, parts.filter(([, text]) => text).map(([where, text]) => [where, text, text.toLowerCase()]));
  }
  return texts.get(run);
}

/** Where the words were found first: { where, before, found, after }, or null. */
function finding(run, query) {
  const words = query.toLowerCase();
  for (const [where, text, lower] of textsOf(run)) {
    const at = lower.indexOf(words);
    if (at < 0) continue;
    const start = Math.max(0, at - 40);
    return {
      where,
      before: (start ? "…" : "") + text.slice(start, at),
      found: text.slice(at, at + words.length),
      after: text.slice(at + words.length, at + words.length + 60),
    };
  }
  return null;
}

/** Whether higher values come first. The first click on a column of scores puts the best ones on top. */
const isDescending = (column) => view.down !== Boolean(column.isScore && maximized);

function compare(column, a, b) {
  const [left, right] = [column.value(a), column.value(b)];
  // What is not known comes last, whichever way the table is sorted.
  if (!known(left) || !known(right)) return known(left) ? -1 : known(right) ? 1 : 0;
  const result = typeof left === "number" ? left - right : left < right ? -1 : left > right ? 1 : 0;
  return isDescending(column) ? -result : result;
}

const statusFilters = {
  accepted: (run) => run.accepted,
  "not accepted": (run) => isScored(run) && !run.accepted,
  "stopped early": (run) => run.status === "PRUNED",
  "no score": (run) => !isScored(run) && !run.running && run.status !== "PRUNED",
};
const usedByModel = (run) => run.conversation.length > 0;
if (runs.some(usedByModel)) statusFilters["with a conversation"] = usedByModel;
if (runs.some((run) => run.refused)) statusFilters["with refused answers"] = (run) => run.refused > 0;

/** The runs that pass the filters, in the order of the table. */
function arrange() {
  const column = columns.find(({ key }) => key === view.sort) || columns[0];
  const query = view.query.trim();
  order = runs.filter(
    (run) =>
      (!view.status || statusFilters[view.status](run)) &&
      (!view.family || run.family === view.family) &&
      (!view.proposer || run.proposer === view.proposer) &&
      (!query || finding(run, query)),
  );
  order.sort((a, b) => compare(column, a, b) || (a.run_id < b.run_id ? -1 : 1));
  return order;
}
const isFiltered = () => Boolean(view.query.trim() || view.status || view.family || view.proposer);

function tableSection() {
  const body = html("tbody");
  const heads = columns.map((column) => {
    const button = html("button", { type: "button", title: column.hint, onclick: () => sortBy(column) }, column.label);
    const cell = html("th", { scope: "col", class: classesOf(column), "data-key": column.key }, button);
    return column.test ? html("th", { scope: "col", class: classesOf(column), "data-key": column.key },
      html("span", { class: "over" }, "not used by the search"), button) : cell;
  });
  const found = html("p", { class: "found quiet", "aria-live": "polite" });
  const find = html("input", {
    type: "search", id: "find", placeholder: "Find in everything", "aria-label": "Find in everything that is known of the runs",
    autocomplete: "off", spellcheck: "false", oninput: (event) => change("query", event.target.value),
  });
  find.value = view.query;
  const unique = (name) => [...new Set(runs.map((run) => run[name]).filter(Boolean))].sort();
  const choose = (name, label, options) => {
    if (options.length < 2) return null;
    const menu = html("select", { "aria-label": label, "data-filter": name, onchange: (event) => change(name, event.target.value) },
      html("option", { value: "" }, label), options.map((option) => html("option", { value: option }, option)));
    menu.value = view[name];
    return menu;
  };
  const bar = html("div", { class: "bar" }, find,
    choose("status", "all runs", Object.keys(statusFilters).filter((name) => runs.some(statusFilters[name]))),
    choose("family", "all families", unique("family")),
    choose("proposer", "all proposers", unique("proposer")), found);

  function change(name, value) {
    view[name] = value;
    remember();
    fill();
  }
  function sortBy(column) {
    view.down = view.sort === column.key ? !view.down : false;
    view.sort = column.key;
    remember();
    fill();
  }
  function fill() {
    arrange();
    const sorted = columns.find(({ key }) => key === view.sort);
    for (const head of heads) {
      const own = head.dataset.key === view.sort;
      head.setAttribute("aria-sort", own ? (isDescending(sorted) ? "descending" : "ascending") : "none");
    }
    const rows = order.map(rowOf);
    // Baselines are placed among the runs where the table is sorted by a score.
    if (!isFiltered() && sorted && sorted.isScore) placeBaselines(rows);
    body.replaceChildren(...rows);
    found.textContent = isFiltered() ? `${order.length} of ${plural(runs.length, "run")}` : "";
    select(order.find((run) => run === selected) || null, false);
  }
  fill();
  const table = html("table", { class: "runs" }, html("thead", {}, html("tr", {}, heads)), body);
  return html("section", { id: "runs", "aria-label": "Runs" }, html("h2", {}, "Runs"), bar,
    html("div", { class: "scroll", tabindex: "-1" }, table));
}

const classesOf = (column) =>
  [column.figures && "figures", column.drop && "drop" + column.drop, column.test && "test", "c-" + column.key].filter(Boolean).join(" ");

function rowOf(run) {
  const status = statusOf(run);
  const hit = view.query.trim() ? finding(run, view.query.trim()) : null;
  const content = {
    run: [run.tie ? html("span", { class: "tie", title: "cannot be told apart from the recommended run" }, "= ") : "", html("a", { href: "#" + run.run_id }, run.run_id)],
    family: run.family || "",
    status: html("span", { class: "status " + status.tone }, status.word),
    val_score: score(run.mean),
    seeds: run.seeds > 1 ? `${score(run.sd)} (${run.seeds})` : run.seeds ? "(1)" : "",
    delta: run.is_best_run ? "" : score(run.delta, true),
    delta_noise: run.is_best_run ? "" : inNoise(run.delta_noise),
    test_score: score(run.test_score),
    proposer: run.proposer || "",
    seconds: duration(run.seconds),
    tokens: run.tokens ? count(run.tokens) : "",
    words: hit && hit.where
      ? [html("span", { class: "quiet" }, hit.where + ": "), hit.before, html("mark", {}, hit.found), hit.after]
      : isScored(run) || run.running ? run.change_summary : run.cause || run.change_summary,
  };
  const cells = columns.map((column) =>
    html("td", { class: classesOf(column), title: column.key === "words" && !hit ? content.words : null }, content[column.key]));
  return html("tr", {
    class: [status.tone, run === selected && "selected"].filter(Boolean).join(" "), "data-run": run.run_id,
    onclick: (event) => { if (!event.target.closest("a") && !String(getSelection())) location.hash = run.run_id; },
  }, cells);
}

function placeBaselines(rows) {
  const test = view.sort === "test_score";
  const valueOf = (row) => (test ? row.test_score : row.val_score);
  const runValue = (run) => (test ? run.test_score : run.mean);
  for (const baseline of [...report.baselines, report.ensemble].filter((row) => row && known(valueOf(row)))) {
    const family = baseline.members ? "mean of " + baseline.members : "baseline";
    const cells = { run: (baseline.tie ? "= " : "") + baseline.name, family, val_score: score(baseline.val_score), test_score: score(baseline.test_score) };
    if (known(search.best) && known(baseline.val_score)) {
      cells.delta = score(baseline.val_score - search.best, true);
      if (search.noise) cells.delta_noise = inNoise((baseline.val_score - search.best) / search.noise);
    }
    const row = html("tr", { class: "baseline" }, columns.map((column) => html("td", { class: classesOf(column) }, cells[column.key] || "")));
    const own = valueOf(baseline);
    row.dataset.value = own;
    const at = rows.findIndex((other) => {
      const value = other.dataset.run ? runValue(runById.get(other.dataset.run)) : Number(other.dataset.value);
      return !known(value) || (view.down ? loss(value) < loss(own) : loss(value) >= loss(own));
    });
    rows.splice(at < 0 ? rows.length : at, 0, row);
  }
}

/** Mark one row as the one that Enter opens. */
function select(run, scroll = true) {
  selected = run;
  for (const row of document.querySelectorAll("tr.selected")) row.classList.remove("selected");
  const row = run && document.querySelector(`tr[data-run="${CSS.escape(run.run_id)}"]`);
  if (!row) return;
  row.classList.add("selected");
  if (scroll) row.scrollIntoView({ block: "nearest" });
}
