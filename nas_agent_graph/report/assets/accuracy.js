// Errors in the units of the data: how they grow with the step ahead, and MASE, sMAPE, RMSE and MAE as a table.

const MOST_IN_TABLE = 10;
const NAMES = [["mase", "MASE"], ["smape", "sMAPE %"], ["rmse", "RMSE"], ["mae", "MAE"]];

/** Four significant digits, but all before the point. */
function figure(value) {
  if (!known(value)) return "";
  if (value !== 0 && (value < 1e-4 || value >= 1e7)) return value.toExponential(3);
  return value.toFixed(value === 0 ? 0 : Math.max(0, 3 - Math.floor(Math.log10(value))));
}

function accuracySection(width) {
  const charts = [["val", "On the validation rows"], ["test", "On the test rows, not used by the search"]]
    .filter(([part]) => report.per_step[part].length)
    .map(([part, title]) => html("div", { class: "chart per-step" }, html("h3", {}, title), stepsChart(report.per_step[part], width)));
  const table = accuracyTable();
  if (!charts.length && !table) return null;
  return html("section", { id: "accuracy", "aria-label": "Errors in the units of the data" },
    html("h2", {}, charts.length ? "Error per step of the horizon" : "Errors in the units of the data"), charts, table);
}

function stepsChart(lines, width) {
  const narrow = width < 620;
  const height = narrow ? 220 : 250;
  const margin = { left: 62, right: narrow ? 16 : 172, top: 24, bottom: 44 };
  const values = lines.flatMap((line) => line.mae);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) * 0.02 || 1) * 0.07;
  const last = lines[0].step[lines[0].step.length - 1];
  const xs = { low: 1, high: last, first: 1, last };
  const label = `mean absolute error of ${lines.map((line) => line.name).join(", ")} by step ahead`;
  const { picture, x, y } = frame(width, height, margin, { low: Math.max(0, low - room), high: high + room }, xs, label);
  // Baselines come first, so that what is compared with them lies on top.
  const simple = lines.filter((line) => line.role === "baseline");
  const labels = [...simple, ...lines.filter((line) => line.role !== "baseline")].map((line) => {
    const tone = line.role === "baseline" ? `simple simple-${simple.indexOf(line)}` : line.role;
    const path = line.mae.map((value, n) => `${n ? "L" : "M"}${x(line.step[n]).toFixed(1)},${y(value).toFixed(1)}`).join("");
    picture.append(svg("path", { class: "curve " + tone, d: path }, svg("title", {}, line.name)));
    return { y: y(line.mae[line.mae.length - 1]), text: short(line.name, 22), tone };
  });
  picture.append(svg("text", { class: "tick", x: margin.left - 9, y: 11, "text-anchor": "end" }, "MAE"));
  picture.append(svg("text", { class: "tick", x: (margin.left + width - margin.right) / 2, y: height - 6, "text-anchor": "middle" }, "steps ahead"));
  if (narrow) return [picture, html("p", { class: "legend" }, labels.map((one) => html("span", { class: one.tone }, one.text)))];
  picture.append(...labelsRight(labels, width - margin.right + 10, margin.top, height - margin.bottom));
  return picture;
}

/** The best runs, all baselines and what is recommended, by their validation MAE. */
function accuracyTable() {
  const scored = runs.filter((run) => isScored(run) && run.accuracy.val).sort((a, b) => loss(a.mean) - loss(b.mean));
  const chosen = report.recommended;
  const handed = chosen && !runById.has(chosen.name) && !report.baselines.some((row) => row.name === chosen.name)
    ? [{ name: chosen.name, more: "recommended", accuracy: chosen.as_searched }] : [];
  const refitted = chosen && chosen.refitted.test ? [{ name: `${chosen.name}, refitted`, more: "recommended", accuracy: chosen.refitted }] : [];
  const rows = [
    ...handed, ...refitted,
    ...scored.slice(0, MOST_IN_TABLE).map((run) => ({ name: run.run_id, more: run.family || "", accuracy: run.accuracy, run })),
    ...report.baselines.filter((row) => row.accuracy.val).map((row) => ({ name: row.name, more: "baseline", accuracy: row.accuracy })),
  ];
  if (!rows.length) return null;
  const size = (row) => (row.accuracy.val ? row.accuracy.val.mae : -1);
  rows.sort((a, b) => size(a) - size(b));
  const cells = (accuracy, tone) => NAMES.map(([name]) => html("td", { class: "figures" + tone }, accuracy ? figure(accuracy[name]) : ""));
  const heads = (part, tone) => NAMES.map(([, label], n) => html("th", { scope: "col", class: "figures" + tone },
    html("span", { class: "over" }, n ? "\u00a0" : part), label));
  return html("details", { class: "comparisons", open: true }, html("summary", {}, "MASE, sMAPE, RMSE and MAE"),
    html("div", { class: "scroll" }, html("table", { class: "numbers accuracy" },
      html("thead", {}, html("tr", {}, html("th", { scope: "col" }, ""), html("th", { scope: "col", class: "drop1" }, ""), heads("validation", ""), heads("test", " test drop2"))),
      html("tbody", {}, rows.map((row) => html("tr", { class: row.more === "baseline" ? "baseline" : null },
        html("td", { class: "c-run" }, row.run ? runLink(row.name) : row.name), html("td", { class: "quiet drop1" }, row.more),
        cells(row.accuracy.val, ""), cells(row.accuracy.test, " test drop2")))))),
    html("p", { class: "quiet" }, "RMSE and MAE are in the units of the data. MASE divides by the error of the seasonal naive forecast on the training rows; ",
      "below 1 is better. ", scored.length > MOST_IN_TABLE ? `Of the runs the best ${MOST_IN_TABLE}; each run's page has its own.` : ""));
}
