// One run: why it was tried, what changed, how it went, its verdict, and its whole conversation.

function runPage(run, width) {
  const sections = [
    ["changes", "Changes", changesSection(run)],
    ["curve", "Learning curve", curveSection(run, width)],
    ["seeds", "Other seeds", seedsSection(run)],
    ["refused", "Refused answers", refusedSection(run)],
    ["conversation", "Conversation", conversationSection(run)],
    ["log", "End of the log", run.log ? html("pre", { class: "log" }, run.log) : null],
    ["pictures", "Pictures", picturesSection(run)],
    ["configuration", "Configuration", configurationSection(run)],
    ["files", "Files", filesSection(run)],
  ].filter(([, , content]) => content);
  const status = statusOf(run);
  return html("article", { class: "run", "aria-labelledby": "title" },
    header(run),
    html("h1", { id: "title", tabindex: "-1" }, run.run_id, " ",
      html("span", { class: "family" }, run.family || ""), " ", html("span", { class: "status " + status.tone }, status.word)),
    run.hypothesis ? html("blockquote", {}, run.hypothesis) : null,
    metrics(run),
    verdict(run),
    html("nav", { class: "inside", "aria-label": "Sections of this run" },
      sections.map(([id, title]) => html("a", { href: `#${run.run_id}/${id}` }, title))),
    sections.map(([id, title, content]) => html("section", { id }, html("h2", {}, title), content)),
  );
}

function header(run) {
  const at = order.indexOf(run);
  const step = (to, label, key) => to
    ? html("a", { href: "#" + to.run_id, "aria-keyshortcuts": key }, label)
    : html("span", { class: "off" }, label);
  return html("nav", { class: "path", "aria-label": "Runs" },
    html("a", { href: "#", "aria-keyshortcuts": "Escape" }, "← ", report.name),
    html("span", { class: "steps" },
      at >= 0 ? html("span", { class: "quiet" }, `${at + 1} of ${order.length}${isFiltered() ? " found" : ""}`) : null,
      step(at > 0 ? order[at - 1] : null, "previous", "k"),
      step(at >= 0 ? order[at + 1] : order[0], "next", "j")));
}

function metrics(run) {
  const entry = (label, value, more, tone) => value
    ? html("div", { class: tone }, html("dt", {}, label), html("dd", {}, value, more ? html("small", {}, more) : null)) : null;
  const margin = search.leads_by === "margin";
  const against = run.is_best_run || !known(run.delta) ? ""
    : known(run.delta_noise) ? `${inNoise(run.delta_noise)} times the noise` : margin ? "noise unknown" : repeated ? "between means over seeds" : "";
  const leads = run.is_best_run ? `the ${maximized ? "highest" : "lowest"} ${margin ? "accepted" : "mean"}` : "";
  return html("dl", { class: "figures" },
    run.seeds > 1 ? entry(`${search.metric}, mean of ${run.seeds} seeds`, score(run.mean), `± ${score(run.sd)} standard deviation`) : null,
    entry(run.seeds > 1 ? "its first score" : search.metric, score(run.val_score), run.seeds > 1 ? "" : leads),
    entry("to the best", run.is_best_run ? "" : score(run.delta, true), against),
    known(run.expected) ? entry("expected", score(run.expected), surprise(run)) : null,
    entry(`test ${search.error}`, score(run.test_score), "not used by the search", "test"),
    accuracyEntries(run).map(([label, value, more]) => entry(label, value, more)),
    entry("time", duration(run.seconds), known(run.outcome.peak_memory_mb) ? `${count(run.outcome.peak_memory_mb)} MiB` : ""),
    entry("tokens", run.tokens ? count(run.tokens) : "", known(run.cost) ? money(run.cost) : "cost not known"),
  );
}

/** Its errors on the validation rows, with those on the test rows below. */
function accuracyEntries(run) {
  const { val, test } = run.accuracy;
  return val ? NAMES.map(([name, label]) => [label, figure(val[name]), test && known(test[name]) ? `test ${figure(test[name])}` : ""]) : [];
}

function surprise(run) {
  if (!known(run.val_score)) return "it has no score";
  const off = loss(run.val_score) - loss(run.expected);
  const unit = search.noise || search.noise_of_seeds;
  const noise = unit ? `, ${Math.abs(off / unit).toFixed(1)} times the noise` : "";
  return `${score(Math.abs(off))} ${off <= 0 ? "better" : "worse"} than that${noise}`;
}

function verdict(run) {
  const lines = [];
  const by = [run.proposer ? `Proposed by ${run.proposer}` : "Not proposed yet"];
  if (run.parent) by.push(", from ", runLink(run.parent));
  if (run.refused) by.push(`, after ${plural(run.refused, "refused answer")}`);
  lines.push(html("p", {}, by, "."));
  if (run.running) lines.push(html("p", {}, `Running, at ${run.step || "its beginning"}.`));
  if (run.verdict) lines.push(html("p", {}, `${run.accepted ? "Accepted" : "Not accepted"}: ${run.verdict}.`));
  if (run.status === "PRUNED") lines.push(html("p", {}, run.cause || "stopped early"));
  else if (run.cause) {
    const where = ["epoch", "step"].filter((name) => known(run.outcome[name])).map((name) => `${name} ${run.outcome[name]}`);
    lines.push(html("p", { class: "cause" }, `${run.status}: ${run.cause}`, where.length ? ` (${where.join(", ")})` : ""));
  }
  if (run.attempt > 1) lines.push(html("p", { class: "quiet" }, `This is attempt ${run.attempt} at training it.`));
  return html("div", { class: "judgement" }, lines);
}

function changesSection(run) {
  if (!run.changes.length) {
    return html("p", { class: "quiet" }, run.parent ? "None against its parent." : "It has no parent: this is the base configuration.");
  }
  return html("table", { class: "changes" },
    html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "parameter"),
      html("th", { scope: "col" }, runLink(run.parent, run.parent || "before")), html("th", { scope: "col" }, run.run_id))),
    html("tbody", {}, run.changes.map((change) => html("tr", {}, html("td", {}, change.parameter),
      html("td", { class: "old" }, change.old ?? "–"), html("td", { class: "new" }, change.new)))));
}

function curveSection(run, width) {
  if (!run.curve) return html("p", { class: "quiet" }, run.running ? "No epoch yet." : "No epoch was completed.");
  const thinned = run.curve.epoch.length < run.curve.epochs
    ? ` Drawn are ${run.curve.epoch.length} of its ${run.curve.epochs} epochs, the best validation score of each group.` : "";
  return [learningChart(run, width), html("p", { class: "quiet" }, run.summary || plural(run.curve.epochs, "epoch") + ".", thinned)];
}

/** The run's trainings with other seeds, and how it stands to the recommended run. */
function seedsSection(run) {
  const standing = standingText(run);
  if (!run.repeats.length) return standing ? html("p", {}, standing) : null;
  const own = { name: "its own", purpose: "", status: run.status, val_score: run.val_score, seconds: run.seconds };
  return [
    html("table", { class: "numbers seeds" },
      html("thead", {}, html("tr", {}, [["training"], ["why"], [search.metric, "figures"], ["end", "drop1"], ["time", "figures drop1"]].map(([text, tone]) => html("th", { scope: "col", class: tone }, text)))),
      html("tbody", {}, [own, ...run.repeats].map((repeat) => html("tr", {},
        html("td", {}, known(repeat.seed) ? `seed ${repeat.seed}` : repeat.name), html("td", {}, repeat.purpose || ""),
        html("td", { class: "figures" }, score(repeat.val_score)), html("td", { class: "drop1" }, repeat.status || ""),
        html("td", { class: "figures drop1" }, duration(repeat.seconds)))))),
    standing ? html("p", { class: "standing" }, standing) : null];
}

function standingText(run) {
  if (!conclusion || !isScored(run)) return "";
  const best = conclusion.recommended;
  const row = conclusion.contenders.find((other) => other.name === run.run_id && !other.is_baseline);
  if (run.run_id === best) return `The best run: ${conclusion.word === "not distinguishable" ? "not distinguishable from others" : conclusion.word}.`;
  if (!row) return `Not compared with ${best}: its mean is not among the ${maximized ? "highest" : "lowest"}.`;
  const margins = [[row.margin_from_seeds, "from seeds"], [row.margin_from_rows, "from the validation rows"], [row.margin, "together"]]
    .filter(([value]) => known(value)).map(([value, from]) => `${score(value)} ${from}`);
  const told = row.told_apart === true ? `Told apart from ${best}` : row.told_apart === false ? `Cannot be told apart from ${best}` : `Not tested against ${best}`;
  return `${told}: ${score(Math.abs(row.lead))} ${row.lead >= 0 ? "worse" : "better"}`
    + (margins.length ? ` (margin of error at 90 %: ${margins.join(", ")})` : "")
    + (rowsCannotTell(row) ? "; the validation rows cannot tell" : "") + ".";
}

function refusedSection(run) {
  const refused = run.conversation.filter((message) => message.role === "refusal" || message.role === "declined");
  return refused.length ? html("ol", { class: "refused" }, refused.map((message) => html("li", {}, message.text))) : null;
}

const roles = {
  system: "instructions", user: "question", assistant: "answer", reasoning: "reasoning", refusal: "refused",
  declined: "the model declined", event: "event",
};
const collapsed = new Set(["system", "user", "reasoning"]);

function conversationSection(run) {
  if (!run.conversation.length) return null;
  return html("div", { class: "conversation" }, run.conversation.map((message) => {
    const tokens = message.tokens_in || message.tokens_out
      ? `${count(message.tokens_in || 0)} tokens in, ${count(message.tokens_out || 0)} out` : "";
    const finish = message.finish && message.finish !== "stop" ? `ended by ${message.finish}` : "";
    const facts = [message.model, tokens, duration(message.latency_s), money(message.cost), message.format, finish,
      message.left_out ? `${count(message.left_out)} characters left out` : "", message.kind, moment(message.ts)].filter(Boolean);
    const title = [html("b", {}, roles[message.role] || message.role), html("span", { class: "quiet" }, facts.join(" · "))];
    const text = html("pre", {}, message.text || (message.same_as ? "" : "(nothing)"));
    if (message.same_as) {
      return html("div", { class: "message " + message.role }, html("div", { class: "title" }, title),
        html("p", { class: "quiet" }, "The same as in ", runLink(message.same_as), "."));
    }
    if (!collapsed.has(message.role)) return html("div", { class: "message " + message.role }, html("div", { class: "title" }, title), text);
    const size = html("span", { class: "quiet" }, `${count(message.text.length)} characters`);
    return html("details", { class: "message " + message.role }, html("summary", { class: "title" }, title, size), text);
  }));
}

function picturesSection(run) {
  if (!run.pictures.length) return null;
  return run.pictures.map((picture) => picture.data
    ? html("figure", {}, html("img", { src: "data:image/png;base64," + picture.data, width: picture.width, height: picture.height, alt: `${picture.name} of ${run.run_id}` }),
        html("figcaption", { class: "quiet" }, picture.name))
    : html("p", { class: "quiet" }, fileLink(run, picture.name), known(picture.bytes) ? ` (${bytes(picture.bytes)})` : "",
        ` is not in this page: ${picture.left_out}.`));
}

function configurationSection(run) {
  const entries = Object.entries(run.config);
  const changed = new Set(run.changes.map((change) => change.parameter));
  return entries.length ? html("details", {}, html("summary", {}, plural(entries.length, "parameter")),
    html("dl", { class: "parameters" }, entries.map(([name, value]) =>
      html("div", { class: changed.has(name) ? "new" : null }, html("dt", {}, name), html("dd", {}, value))))) : null;
}

/** Works where the page is on the machine of the search; elsewhere it leads nowhere. */
const fileLink = (run, name) => html("a", { href: `${report.folder}/${encodeURIComponent(run.run_id)}/${encodeURIComponent(name)}` }, name);

function filesSection(run) {
  return run.files.length ? html("p", { class: "files" }, run.files.map((file) =>
    html("span", {}, fileLink(run, file.name), " ", html("span", { class: "quiet" }, bytes(file.bytes))))) : null;
}
