// What each slot of a search trained, and when: a row for each, a bar for each training, gaps where it waited.

/** Ticks in the unit that people would count in: seconds, minutes or hours. */
function timeTicks(seconds, wanted) {
  const [unit, size] = seconds < 150 ? ["s", 1] : seconds < 9000 ? ["min", 60] : ["h", 3600];
  const found = ticks(0, seconds / size, wanted);
  return found.values.map((value) => ({ at: value * size, text: value ? `${value.toFixed(found.decimals)} ${unit}` : "0" }));
}

const repeatText = (bar) => bar.repeat.replace("seed_", "repeat with seed ") + (bar.purpose ? ` (${bar.purpose})` : "");

/** What a bar shows, as text for those who cannot see it. */
function barText(bar, run) {
  const status = bar.repeat ? repeatText(bar) : run ? statusOf(run).word : "";
  const own = run && !bar.repeat && known(run.val_score) ? `${search.metric} ${score(run.val_score)}` : "";
  const took = `${bar.running ? "for " : ""}${duration(bar.seconds)}, slot ${bar.row + 1}`;
  return [bar.run, run && run.family, status, own, took].filter(Boolean).join(", ");
}

function timelineChart(width) {
  const timeline = report.timeline;
  const narrow = width < 620;
  const margin = { left: 62, right: 16, top: 6, bottom: 26 };
  const step = timeline.rows > 16 ? 14 : 26;
  const height = margin.top + timeline.rows * step + margin.bottom;
  const room = width - margin.left - margin.right;
  const x = (seconds) => margin.left + (seconds / (timeline.seconds || 1)) * room;
  const share = `${Math.round(timeline.share * 100)} % of ${plural(timeline.rows, "slot")}`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `Timeline: training ${share}, over ${duration(timeline.seconds)}` });
  const below = height - margin.bottom;
  for (const { at, text } of timeTicks(timeline.seconds, narrow ? 4 : 8)) {
    picture.append(
      svg("line", { class: "grid", x1: x(at), x2: x(at), y1: margin.top, y2: below }),
      svg("text", { class: "tick", x: x(at), y: below + 17, "text-anchor": "middle" }, text),
    );
  }
  for (let row = 0; row < timeline.rows; row += 1) {
    const y = margin.top + (row + 0.5) * step + 4;
    if (step > 20 || row % 2 === 0) picture.append(svg("text", { class: "tick", x: margin.left - 9, y, "text-anchor": "end" }, `slot ${row + 1}`));
  }
  for (const pause of timeline.pauses) {
    picture.append(svg("line", { class: "pause", x1: x(pause.at), x2: x(pause.at), y1: margin.top, y2: below },
      svg("title", {}, `nothing trained for ${duration(pause.seconds)}`)));
  }
  const tip = html("div", { class: "tip", hidden: true });
  const bars = timeline.bars.map((bar) => {
    const run = runById.get(bar.run);
    const [left, right] = [x(bar.start), x(bar.end)];
    // Neighbours are told apart by a gap of a pixel, where there is room for one.
    const box = { x: left.toFixed(1), y: margin.top + bar.row * step + 3, width: Math.max(right - left - (right - left > 4 ? 1 : 0), 1).toFixed(1), height: step - 6, rx: right - left > 8 ? 3 : 0 };
    const tone = bar.repeat ? "repeat" : run ? statusOf(run).tone : "failed";
    return svg("a", { href: "#" + bar.run, tabindex: "-1", "aria-label": barText(bar, run), "data-run": bar.run,
      onpointerenter: () => point(bar, run), onpointerleave: leave, onfocus: () => point(bar, run), onblur: leave },
    svg("rect", { class: "span " + tone, ...box }),
    right - left > 62 && step > 20 ? svg("text", { class: "inbar " + tone, x: left + 7, y: margin.top + (bar.row + 0.5) * step + 4 }, bar.run) : null);
  });
  if (bars.length) bars[0].setAttribute("tabindex", "0");
  picture.append(...bars);

  function point(bar, run) {
    tip.replaceChildren(...[
      html("div", {}, html("b", {}, bar.run), " ", html("span", { class: "quiet" }, (run && run.family) || "")),
      bar.repeat ? html("div", { class: "quiet" }, repeatText(bar))
        : run && html("div", { class: "figures" }, isScored(run) ? score(run.val_score) : run.cause || ""),
      !bar.repeat && run && html("div", { class: "status " + statusOf(run).tone }, statusOf(run).word),
      html("div", { class: "quiet" }, `${duration(bar.seconds)}${bar.running ? " so far" : ""}, after ${duration(bar.start)}`),
    ].filter(Boolean));
    tip.hidden = false;
    tip.style.left = Math.max(0, Math.min(x(bar.start), width - tip.offsetWidth)) + "px";
    tip.style.top = margin.top + (bar.row + 1) * step + 4 + "px";
  }
  function leave() { tip.hidden = true; }
  // One stop of the tab key; the arrows go from bar to bar, in the order in which they began.
  picture.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const at = bars.indexOf(document.activeElement);
    if (!by || at < 0) return;
    event.preventDefault();
    event.stopPropagation();
    const next = bars[Math.min(Math.max(at + by, 0), bars.length - 1)];
    bars[at].setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });

  const tones = new Set(bars.map((bar) => bar.querySelector("rect").getAttribute("class").slice(5)));
  const key = [
    ["best-run", "best run"], ["accepted", "accepted"], ["rejected", "not accepted"], ["pruned", "stopped early"],
    ["failed", "no score"], ["running", "running"], ["repeat", "repeats, with other seeds"],
  ].filter(([tone]) => tones.has(tone));
  const cut = timeline.pauses.reduce((sum, pause) => sum + pause.seconds, 0);
  const legend = html("p", { class: "legend" },
    html("span", {}, "training ", html("b", {}, share), `, over ${duration(timeline.seconds)} from ${moment(timeline.began)}`),
    key.map(([tone, label]) => html("span", {}, spanKey(tone), label)),
    cut ? html("span", {}, `${plural(timeline.pauses.length, "pause")} left out (${duration(cut)})`) : null,
    timeline.left_out ? html("span", {}, `${plural(timeline.left_out, "training")} next to so many others not drawn`) : null,
  );
  return html("div", { class: "chart" }, picture, tip, legend);
}

const spanKey = (tone) => svg("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" },
  svg("rect", { class: "span " + tone, x: 0.5, y: 2.5, width: 13, height: 9, rx: 2 }));
