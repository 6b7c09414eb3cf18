// Two drawings: the search's progress and a run's learning curve. Plain SVG at the width there is.

/** Round tick values that cover low..high; 1, 2 or 5 times a power of ten apart. */
function ticks(low, high, wanted) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / Math.max(wanted, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) found.push(n * step);
  return { values: found, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** Where the axis ends: far worse outliers would flatten all that matters, so they are drawn at the edge. */
function axisRange(values) {
  const sorted = values.map(loss).sort((a, b) => a - b);
  const low = sorted[0];
  const middle = sorted[Math.floor((sorted.length - 1) / 2)];
  let farthest = low + 10 * (middle - low || Math.abs(low) * 0.01 || 1);
  if (sorted.length > 40) farthest = Math.min(farthest, low + 1.6 * (sorted[Math.floor(sorted.length * 0.9)] - low) || farthest);
  const high = sorted.filter((value) => value <= farthest).pop();
  const room = (high - low || Math.abs(low) * 0.02 || 1) * 0.07;
  return maximized ? { low: -high - room, high: room - low } : { low: low - room, high: high + room };
}
const isBeyond = (value, range) => (maximized ? value < range.low : value > range.high);

function frame(width, height, margin, range, xs, label) {
  const x = (value) => margin.left + ((value - xs.low) / (xs.high - xs.low || 1)) * (width - margin.left - margin.right);
  const y = (value) =>
    height - margin.bottom - ((value - range.low) / (range.high - range.low || 1)) * (height - margin.top - margin.bottom);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  const box = { x: margin.left, y: margin.top, width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
  picture.append(svg("clipPath", { id: "inside" }, svg("rect", box)));
  const left = ticks(range.low, range.high, 5);
  for (const value of left.values) {
    picture.append(
      svg("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: margin.left - 9, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(left.decimals)),
    );
  }
  const below = ticks(xs.first, xs.last, Math.max(2, Math.min(10, (width - 200) / 80)));
  for (const value of below.values.filter(Number.isInteger)) {
    picture.append(
      svg("text", { class: "tick", x: x(value), y: height - margin.bottom + 19, "text-anchor": "middle" }, String(value)),
    );
  }
  return { picture, x, y };
}

/** Labels at the right edge, moved apart where they would overlap. */
function labelsRight(labels, x, top, bottom) {
  const sorted = labels.sort((a, b) => a.y - b.y);
  const gap = 15;
  for (let n = 1; n < sorted.length; n += 1) sorted[n].y = Math.max(sorted[n].y, sorted[n - 1].y + gap);
  if (sorted.length) sorted[sorted.length - 1].y = Math.min(sorted[sorted.length - 1].y, bottom);
  for (let n = sorted.length - 2; n >= 0; n -= 1) sorted[n].y = Math.min(sorted[n].y, sorted[n + 1].y - gap);
  return sorted.map((label) => svg("text", { class: "label " + label.tone, x, y: Math.max(label.y, top) + 4 }, label.text));
}

function searchChart(width) {
  const scored = runs.map((run, index) => ({ run, index })).filter(({ run }) => isScored(run));
  const baselines = report.baselines.filter((row) => known(row.val_score));
  const values = [...scored.map(({ run }) => run.mean), ...baselines.map((row) => row.val_score)];
  if (!values.length) return html("p", { class: "quiet" }, "No run has a score yet.");
  const narrow = width < 620;
  const height = narrow ? 260 : 330;
  const margin = { left: 62, right: narrow ? 16 : 172, top: 24, bottom: 44 };
  const range = axisRange(values);
  const last = Math.max(runs.length - 1, 1);
  const xs = { low: -0.5 - last * 0.01, high: last + 0.5 + last * 0.01, first: 0, last };
  const summary = known(search.best) ? `, best ${score(search.best)} by ${search.best_run}` : "";
  const { picture, x, y } = frame(width, height, margin, range, xs, `${search.metric} of ${plural(scored.length, "run")}${summary}`);
  const edge = width - margin.right;
  const inside = (value) => Math.min(Math.max(y(value), margin.top), height - margin.bottom);
  const labels = [];

  if (search.noise && known(search.best)) {
    const [top, low] = [inside(search.best + search.noise), inside(search.best - search.noise)];
    picture.append(svg("rect", { class: "noise", x: margin.left, width: edge - margin.left, y: top, height: Math.max(low - top, 1) }));
  }
  const beyond = [];
  for (const row of baselines) {
    if (isBeyond(row.val_score, range)) {
      beyond.push(`${short(row.name, 30)} ${score(row.val_score)}`);
      continue;
    }
    picture.append(svg("line", { class: "baseline", x1: margin.left, x2: edge, y1: y(row.val_score), y2: y(row.val_score) }));
    labels.push({ y: y(row.val_score), text: `${short(row.name, 16)} ${score(row.val_score)}`, tone: "quiet" });
  }
  let best = null;
  let path = "";
  for (const { run, index } of scored) {
    if (best === null || loss(run.mean) < loss(best)) best = run.mean;
    path += path ? `H${x(index)}V${y(best)}` : `M${x(index)},${y(best)}`;
  }
  if (path) {
    picture.append(svg("path", { class: "best", d: path + `H${edge}`, "clip-path": "url(#inside)" }));
    labels.push({ y: y(best), text: `${!repeated ? "best run" : maximized ? "highest mean" : "lowest mean"} ${score(best)}`, tone: "strong" });
  }
  const small = runs.length > 150;
  for (const { run, index } of scored) {
    const seeds = [run.val_score, ...run.repeats.map((repeat) => repeat.val_score)].filter(known);
    if (run.seeds < 2 || isBeyond(run.mean, range)) continue;
    const ends = [Math.min(...seeds), Math.max(...seeds)].map(inside);
    picture.append(svg("line", { class: "seeds", x1: x(index), x2: x(index), y1: ends[0], y2: ends[1] }),
      ...seeds.map((value) => svg("circle", { class: "seed", cx: x(index), cy: inside(value), r: 1.8 })));
  }
  const marks = scored.map(({ run, index }) => mark(run, x(index), inside(run.mean), isBeyond(run.mean, range), small));
  runs.forEach((run, index) => {
    if (isScored(run) || run.running) return;
    const [cx, cy, r] = [x(index), margin.top - 8, small ? 2 : 3.5];
    const cross = `M${cx - r},${cy - r}L${cx + r},${cy + r}M${cx - r},${cy + r}L${cx + r},${cy - r}`;
    marks.push(svg("path", { class: "mark " + statusOf(run).tone, d: cross }));
  });
  // The important ones last, so that they lie on top.
  const weight = (node) => ["rejected", "pruned", "failed", "accepted", "best-run"].findIndex((name) => node.classList.contains(name));
  picture.append(...marks.sort((a, b) => weight(a) - weight(b)));
  picture.append(svg("text", { class: "tick", x: margin.left - 9, y: 11, "text-anchor": "end" }, search.metric));
  picture.append(svg("text", { class: "tick", x: (margin.left + edge) / 2, y: height - 6, "text-anchor": "middle" }, "run"));
  if (!narrow) picture.append(...labelsRight(labels, edge + 10, margin.top, height - margin.bottom));

  const focus = svg("circle", { class: "focus", r: 9, visibility: "hidden" });
  const tip = html("div", { class: "tip", hidden: true });
  picture.append(focus);
  const places = runs
    .map((run, index) => ({ run, x: x(index), y: isScored(run) ? inside(run.mean) : margin.top - 8 }))
    .filter(({ run }) => !run.running);
  let pointed = null;
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const distance = (place) => (place.x - px) ** 2 + (place.y - py) ** 2 / 9;
    pointed = places.reduce((a, b) => (a && distance(a) <= distance(b) ? a : b), null);
    if (!pointed || Math.abs(pointed.x - px) > 40) return leave();
    focus.setAttribute("cx", pointed.x);
    focus.setAttribute("cy", pointed.y);
    focus.setAttribute("visibility", "visible");
    tip.replaceChildren(...tipFor(pointed.run));
    tip.hidden = false;
    const room = tip.offsetWidth;
    tip.style.left = Math.max(0, Math.min(pointed.x + 14, width - room)) + "px";
    tip.style.top = pointed.y + 14 + "px";
    picture.style.cursor = "pointer";
  });
  function leave() {
    pointed = null;
    focus.setAttribute("visibility", "hidden");
    tip.hidden = true;
    picture.style.cursor = "";
  }
  picture.addEventListener("pointerleave", leave);
  picture.addEventListener("click", () => pointed && (location.hash = pointed.run.run_id));

  const key = [
    ["accepted", "accepted"], ["rejected", "not accepted"], ["pruned", "stopped early"], ["failed", "no score"],
  ].filter(([tone]) => runs.some((run) => statusOf(run).tone === tone || (tone === "accepted" && run.is_best_run)));
  const legend = html("p", { class: "legend" },
    html("span", {}, `${search.metric}: ${maximized ? "higher" : "lower"} is better`),
    key.map(([tone, label]) => html("span", {}, keyMark(tone), label)),
    scored.some(({ run }) => run.seeds > 1) ? html("span", {}, "a mark is the mean over seeds, a line their range") : null,
    search.noise ? html("span", {}, keyMark("noise"), `± noise ${score(search.noise)} around the best`) : null,
    beyond.length ? html("span", {}, `${maximized ? "below" : "above"} the picture: ${beyond.join(", ")}`) : null,
    narrow ? labels.map((label) => html("span", {}, label.text)) : null,
  );
  return html("div", { class: "chart" }, picture, tip, legend);
}

function mark(run, cx, cy, beyond, small) {
  const tone = statusOf(run).tone;
  // An arrow towards where it would be.
  const up = maximized ? -1 : 1;
  if (beyond) return svg("path", { class: "mark " + tone, d: `M${cx - 4},${cy + 5 * up}L${cx},${cy - 2 * up}L${cx + 4},${cy + 5 * up}Z` });
  const radius = (tone === "best-run" ? 6 : tone === "accepted" ? 4.5 : 3.5) * (small ? 0.7 : 1);
  return svg("circle", { class: "mark " + tone, cx, cy, r: radius });
}

function keyMark(tone) {
  const inside = tone === "noise" ? svg("rect", { class: "noise", x: 0, y: 2, width: 14, height: 10 })
    : tone === "failed" || tone === "pruned" ? svg("path", { class: "mark " + tone, d: "M3.5,3.5L10.5,10.5M3.5,10.5L10.5,3.5" })
    : svg("circle", { class: "mark " + tone, cx: 7, cy: 7, r: tone === "accepted" ? 4.5 : 3.5 });
  return svg("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" }, inside);
}

function tipFor(run) {
  const status = statusOf(run);
  const line = (text, tone) => text && html("div", { class: tone }, text);
  return [
    html("div", {}, html("b", {}, run.run_id), " ", html("span", { class: "quiet" }, run.family || "")),
    line(isScored(run) ? `${score(run.mean)}${seedsText(run)}  ${run.is_best_run ? "" : score(run.delta, true)}` : run.cause, "figures"),
    line(status.word, "status " + status.tone),
    line(run.change_summary, "quiet"),
  ].filter(Boolean);
}

function learningChart(run, width) {
  const own = run.curve;
  const parent = run.parent && run.parent !== run.run_id ? runById.get(run.parent) : null;
  const curves = [
    { name: "train", tone: "train", epoch: own.epoch, values: own.train },
    { name: "validation", tone: "val", epoch: own.epoch, values: own.val },
  ];
  if (parent && parent.curve) {
    curves.unshift({ name: `validation of ${short(parent.run_id, 12)}`, tone: "parent", epoch: parent.curve.epoch, values: parent.curve.val });
  }
  const values = curves.flatMap((curve) => curve.values).filter(known);
  if (!values.length) return html("p", { class: "quiet" }, "No epoch has a finite score.");
  const narrow = width < 620;
  const height = narrow ? 220 : 260;
  const margin = { left: 62, right: narrow ? 16 : 172, top: 24, bottom: 44 };
  // The parent is there for comparison; the picture ends where this run does.
  const last = Math.max(own.epoch[own.epoch.length - 1], 1);
  const xs = { low: 0, high: last, first: 0, last };
  const { picture, x, y } = frame(width, height, margin, axisRange(values), xs, `learning curve over ${plural(own.epochs, "epoch")}`);
  const labels = [];
  for (const curve of curves) {
    let path = "";
    let pen = "M";
    let end = null;
    curve.values.forEach((value, index) => {
      if (curve.epoch[index] > last) return;
      if (!known(value)) { pen = "M"; return; }
      path += `${pen}${x(curve.epoch[index]).toFixed(1)},${y(value).toFixed(1)}`;
      pen = "L";
      end = { value, x: x(curve.epoch[index]) };
    });
    if (!end) continue;
    picture.append(svg("path", { class: "curve " + curve.tone, d: path, "clip-path": "url(#inside)" }));
    if (curve.values.filter(known).length === 1) {
      picture.append(svg("circle", { class: "dot " + curve.tone, cx: end.x, cy: y(end.value), r: 3.5 }));
    }
    labels.push({ y: Math.min(Math.max(y(end.value), margin.top), height - margin.bottom), text: curve.name, tone: curve.tone });
  }
  if (known(own.best)) {
    const at = own.epoch.indexOf(own.best);
    if (at >= 0) {
      const [cx, cy] = [x(own.best), y(own.val[at])];
      picture.append(svg("line", { class: "besthere", x1: cx, x2: cx, y1: cy, y2: height - margin.bottom }));
      picture.append(svg("circle", { class: "dot val", cx, cy, r: 4 }));
    }
  }
  picture.append(svg("text", { class: "tick", x: margin.left - 9, y: 11, "text-anchor": "end" }, search.error));
  picture.append(svg("text", { class: "tick", x: (margin.left + width - margin.right) / 2, y: height - 6, "text-anchor": "middle" }, "epoch"));
  if (narrow) {
    const legend = html("p", { class: "legend" }, labels.map((label) => html("span", { class: label.tone }, label.text)));
    return html("div", { class: "chart" }, picture, legend);
  }
  picture.append(...labelsRight(labels, width - margin.right + 10, margin.top, height - margin.bottom));
  return html("div", { class: "chart" }, picture);
}
