// What the search says at its end: its sentences, an interval for each contender, and the comparisons as numbers.

const conclusion = report.conclusion;
const MOST_CONTENDERS = 40;

const bothEnds = (bounds) => (bounds && known(bounds.low) && known(bounds.high) ? [bounds.low, bounds.high] : []);
const intervalOf = (row) => (bothEnds(row.over_seeds_and_rows).length ? row.over_seeds_and_rows : row.over_seeds);

function conclusionSection(width) {
  const rows = conclusion.contenders.filter((row) => known(row.score)).slice(0, MOST_CONTENDERS);
  const left = conclusion.contenders.length - rows.length;
  return html("section", { id: "conclusion", "aria-label": "What this search says" },
    html("h2", {}, "What this search says"),
    html("div", { class: "said" }, [...conclusion.sentences, ...report.recommendation].map((text, index) => html("p", { class: index ? null : "verdict " + wordTone() }, text))),
    rows.length ? contendersChart(rows, width) : null,
    left > 0 ? html("p", { class: "quiet" }, `${plural(left, "contender")} more not drawn.`) : null,
    holdOutChart(width),
    comparisonsTable(rows));
}

const wordTone = () => (conclusion.word === "confirmed" ? "confirmed" : conclusion.word === "untested" ? "untested" : "ties");

/** The ends of an axis that holds the intervals of all rows but far worse outliers. */
function intervalRange(rows) {
  const range = axisRange(rows.map((row) => row.score));
  const ends = rows.filter((row) => !isBeyond(row.score, range)).flatMap((row) =>
    [...bothEnds(intervalOf(row)), ...row.scores.map((seed) => seed.score).filter((value) => !isBeyond(value, range))]);
  const low = Math.min(range.low, ...ends);
  const high = Math.max(range.high, ...ends);
  return { low, high };
}

function contendersChart(rows, width) {
  const best = rows[0];
  const label = `${search.metric} of ${plural(rows.length, "contender")} with 90 % intervals; recommended is ${best.name}`;
  const drawn = rows.map((row) => ({ ...row, tone: row === best ? "best-run" : row.is_baseline ? "baseline" : "run", more: row.is_baseline ? "baseline" : row.family || "" }));
  const found = intervalChart(drawn, width, search.metric, label);
  const seeds = rows.some((row) => row.scores.length > 1);
  const shown = (test, mark, text) => (test ? html("span", {}, mark, text) : null);
  return html("div", { class: "chart" }, found.picture, html("p", { class: "legend" },
    shown(true, intervalKey("dot"), "score: the mean over seeds, over fresh ones where there are any"),
    shown(seeds, intervalKey("seed"), "a single seed"),
    shown(rows.some((row) => row.scores.some((seed) => seed.fresh)), intervalKey("fresh"), "a fresh seed, of the final"),
    shown(rows.some((row) => row.over_seeds_and_rows), intervalKey("both"), `90 % margin of the distance to ${short(best.name, 20)}, from seeds and validation rows`),
    shown(rows.some((row) => row !== best && row.over_seeds), intervalKey("bar"), "90 % margin from seeds alone"),
    shown(best.over_seeds, intervalKey("both"), `in the row of ${short(best.name, 20)}: 90 % interval of its mean over fresh seeds`),
    shown(rows.some(rowsCannotTell), intervalKey("unknown"), "the validation rows cannot tell"),
    shown(rows.some((row) => row.tie), intervalKey("tie"), `cannot be told apart from ${short(best.name, 20)}`),
    found.beyond.length ? html("span", {}, `${maximized ? "below" : "above"} the picture: ${found.beyond.join(", ")}`) : null));
}

const rowsCannotTell = (row) => row.rows_can_tell === false;

/** A row for each: its name, its score, the interval around it. The first row's score is the line to compare with. */
function intervalChart(rows, width, axis, label) {
  const narrow = width < 620;
  const step = narrow ? 38 : 30;
  const margin = { left: narrow ? 12 : 230, right: narrow ? 12 : 92, top: 8, bottom: 40 };
  const height = margin.top + rows.length * step + margin.bottom;
  const range = intervalRange(rows);
  const x = (value) => margin.left + ((value - range.low) / (range.high - range.low || 1)) * (width - margin.left - margin.right);
  const inside = (value) => Math.min(Math.max(x(value), margin.left), width - margin.right);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  const below = height - margin.bottom;
  rows.forEach((row, index) => {
    if (row.tie) picture.append(svg("rect", { class: "tied", x: 0, width, y: margin.top + index * step, height: step }));
  });
  const scale = ticks(range.low, range.high, narrow ? 3 : 6);
  for (const value of scale.values) {
    picture.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: margin.top, y2: below }),
      svg("text", { class: "tick", x: x(value), y: below + 17, "text-anchor": "middle" }, value.toFixed(scale.decimals)));
  }
  picture.append(svg("line", { class: "besthere", x1: x(rows[0].score), x2: x(rows[0].score), y1: margin.top, y2: below }));
  const beyond = [];
  rows.forEach((row, index) => {
    const y = margin.top + index * step + (narrow ? 25 : step / 2);
    const parts = [svg("title", {}, rowText(row))];
    const name = `${row.tie ? "= " : ""}${short(row.name, narrow ? 24 : 18)}`;
    parts.push(svg("text", { class: "name " + row.tone, x: narrow ? margin.left : margin.left - 14, y: narrow ? y - 12 : y + 4, "text-anchor": narrow ? "start" : "end" },
      name, row.more ? svg("tspan", { class: "family" }, " " + short(row.more, 14)) : null));
    parts.push(svg("text", { class: "tick", x: width - (narrow ? margin.right : 4), y: narrow ? y - 12 : y + 4, "text-anchor": "end" }, score(row.score)));
    if (isBeyond(row.score, range)) {
      const at = maximized ? margin.left : width - margin.right;
      const away = maximized ? -6 : 6;
      parts.push(svg("path", { class: "mark " + row.tone, d: `M${at - away},${y - 4}L${at},${y}L${at - away},${y + 4}Z` }));
      beyond.push(`${short(row.name, 30)} ${score(row.score)}`);
    } else {
      if (rowsCannotTell(row)) parts.push(svg("line", { class: "unresolved", x1: margin.left, x2: width - margin.right, y1: y, y2: y }));
      const seeds = bothEnds(row.over_seeds);
      const both = bothEnds(row.over_seeds_and_rows);
      const wide = both.length || index ? both : seeds;
      if (seeds.length) parts.push(svg("line", { class: "over-seeds", x1: inside(seeds[0]), x2: inside(seeds[1]), y1: y, y2: y }));
      if (wide.length) {
        const ends = wide.map(inside);
        parts.push(svg("path", { class: "whisker", d: `M${ends[0]},${y}H${ends[1]}` + wide.map((end, n) => (inside(end) === x(end) ? `M${ends[n]},${y - 5}V${y + 5}` : "")).join("") }));
      }
      for (const seed of row.scores.length > 1 ? row.scores : []) {
        if (known(seed.score)) parts.push(svg("circle", { class: seed.fresh ? "seed fresh" : "seed", cx: inside(seed.score), cy: y + 9, r: 2.4 }));
      }
      parts.push(svg("circle", { class: "mark " + row.tone, cx: x(row.score), cy: y, r: row.tone === "best-run" ? 6 : 4.5 }));
    }
    picture.append(svg("g", {}, parts));
  });
  picture.append(svg("text", { class: "tick", x: (margin.left + width - margin.right) / 2, y: height - 6, "text-anchor": "middle" },
    `${axis}, ${maximized ? "higher" : "lower"} is better`));
  return { picture, beyond };
}

/** What a row shows, as text. */
function rowText(row) {
  const ends = bothEnds(intervalOf(row));
  const interval = ends.length ? `, 90 % ${score(ends[0])} to ${score(ends[1])}` : "";
  const seeds = row.scores.length > 1 ? `, seeds ${row.scores.map((seed) => score(seed.score)).join(", ")}` : "";
  return `${row.name}${row.more ? ` (${row.more})` : ""}: ${score(row.score)}${interval}${seeds}${row.tie ? ", cannot be told apart" : ""}`;
}

/** The recommended run on rows that the search never read, and the baselines there. */
function holdOutChart(width) {
  const own = conclusion.hold_out;
  if (!own || !known(own.score)) return null;
  const rows = [{ name: conclusion.recommended, score: own.score, over_seeds_and_rows: bothEnds(own).length ? own : null, scores: [], tone: "best-run", more: bothEnds(own).length ? "" : "no interval" },
    ...report.baselines.filter((row) => known(row.hold_out_score)).slice(0, MOST_CONTENDERS)
      .map((row) => ({ name: row.name, score: row.hold_out_score, scores: [], tone: "baseline", more: "baseline" }))
      .sort((a, b) => loss(a.score) - loss(b.score))];
  const found = intervalChart(rows, width, `hold-out ${search.error}`, `hold-out ${search.error} of ${conclusion.recommended} and of the baselines`);
  return html("div", { class: "chart hold-out" }, html("h3", {}, "On the hold-out rows, scored once"), found.picture,
    html("p", { class: "legend" },
      bothEnds(own).length ? html("span", {}, intervalKey("both"), "90 % interval over its rows") : html("span", {}, "too few independent blocks of rows for an interval"),
      found.beyond.length ? html("span", {}, `${maximized ? "below" : "above"} the picture: ${found.beyond.join(", ")}`) : null));
}

function comparisonsTable(rows) {
  const compared = rows.filter((row) => known(row.lead));
  if (!compared.length) return null;
  const heads = [["against"], [search.metric, "figures"], ["lead", "figures"], ["from seeds", "figures drop1"], ["from rows", "figures drop1"], ["together", "figures"], ["told apart"]];
  const told = (row) => (row.told_apart === true ? "yes" : row.told_apart === false ? "no" : "not tested");
  const why = (row) => (rowsCannotTell(row) ? "the rows cannot tell" : "");
  return html("details", { class: "comparisons", open: true },
    html("summary", {}, `The comparisons of ${conclusion.recommended}`),
    html("div", { class: "scroll" }, html("table", { class: "numbers" },
      html("thead", {}, html("tr", {}, heads.map(([text, tone]) => html("th", { scope: "col", class: tone }, text)))),
      html("tbody", {}, compared.map((row) => html("tr", { class: row.is_baseline ? "baseline" : null },
        html("td", { class: "c-run" }, row.is_baseline ? row.name : runLink(row.name)),
        html("td", { class: "figures" }, score(row.score)),
        html("td", { class: "figures" }, score(row.lead, true)),
        html("td", { class: "figures drop1" }, plusMinus(row.margin_from_seeds)),
        html("td", { class: "figures drop1" }, plusMinus(row.margin_from_rows)),
        html("td", { class: "figures" }, plusMinus(row.margin)),
        html("td", { class: row.tie ? "tie" : null, title: why(row) || null }, told(row))))))),
    html("p", { class: "quiet" }, `lead: by how much ${conclusion.recommended} is better; behind it the margins of error of the lead at 90 %. `,
      "Two are told apart if the lead exceeds the margin from seeds, that from the validation rows, and both together."));
}

const plusMinus = (value) => (known(value) ? "±" + score(value).replace("−", "") : "–");

function intervalKey(kind) {
  const parts = {
    dot: [svg("circle", { class: "mark run", cx: 11, cy: 7, r: 4 })],
    seed: [svg("circle", { class: "seed", cx: 11, cy: 7, r: 2.6 })],
    fresh: [svg("circle", { class: "seed fresh", cx: 11, cy: 7, r: 2.6 })],
    both: [svg("path", { class: "whisker", d: "M1,7H21M1,3V11M21,3V11" })],
    bar: [svg("line", { class: "over-seeds", x1: 3, x2: 19, y1: 7, y2: 7 })],
    unknown: [svg("line", { class: "unresolved", x1: 0, x2: 22, y1: 7, y2: 7 })],
    tie: [svg("rect", { class: "tied", x: 0, y: 1, width: 22, height: 12 })],
  };
  return svg("svg", { width: 22, height: 14, viewBox: "0 0 22 14", "aria-hidden": "true" }, parts[kind]);
}
