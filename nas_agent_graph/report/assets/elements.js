// What everything else is made of: elements, formatted numbers, and the search's data.
// Text reaches the page through text nodes and attributes only; nothing is ever parsed as markup.

const report = JSON.parse(document.getElementById("data").textContent);
const runs = report.runs;
const runById = new Map(runs.map((run) => [run.run_id, run]));
const search = report.search;

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false && child !== "") node.append(child);
  }
  return node;
}
const html = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const short = (text, limit) => (text.length > limit ? text.slice(0, limit - 1) + "…" : text);
const known = (value) => value !== null && value !== undefined;
const maximized = search.direction === "maximize";
/** Lower for a better score, whether the metric is minimized or maximized. */
const loss = (value) => (maximized ? -value : value);

/** Scores line up: five decimals, as on the leaderboard. The minus sign is as wide as the plus sign. */
function score(value, signed = false) {
  if (!known(value)) return "";
  const size = Math.abs(value);
  const digits = size < 1000 ? size.toFixed(5) : size.toExponential(2);
  return (value < 0 ? "−" : signed ? "+" : "") + digits;
}
function inNoise(value) {
  if (!known(value)) return "";
  const size = Math.abs(value);
  return (value < 0 ? "−" : "+") + (size < 10000 ? size.toFixed(1) : size.toExponential(0));
}
function duration(seconds) {
  if (!known(seconds)) return "";
  if (seconds < 9.95) return seconds.toFixed(1) + " s";
  if (seconds < 99.5) return seconds.toFixed(0) + " s";
  return seconds < 5400 ? (seconds / 60).toFixed(1) + " min" : (seconds / 3600).toFixed(1) + " h";
}
const count = (value) => Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u2009");
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
const bytes = (size) =>
  size < 1000 ? size + " B" : size < 1e6 ? (size / 1e3).toFixed(1) + " kB" : (size / 1e6).toFixed(1) + " MB";
const money = (value) => (known(value) ? "$" + value.toFixed(value < 0.1 ? 4 : 2) : "");
const moment = (stamp) => {
  const time = new Date(stamp);
  if (isNaN(time)) return "";
  const two = (number) => String(number).padStart(2, "0");
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
};

/** How a run ended, and the class that colours it. */
function statusOf(run) {
  if (run.running) return { word: "running", tone: "running", rank: 2 };
  if (run.status === "PRUNED") return { word: "stopped early", tone: "pruned", rank: 4 };
  if (run.status !== "OK") return { word: run.status || "unknown", tone: "failed", rank: 5 };
  if (!known(run.val_score)) return { word: "no score", tone: "failed", rank: 5 };
  if (run.is_best_run) return { word: "best run", tone: "best-run", rank: 0 };
  if (run.accepted) return { word: "accepted", tone: "accepted", rank: 1 };
  return { word: "not accepted", tone: "rejected", rank: 3 };
}
/** ` ± 0.00042 (4)`: standard deviation and number of the seeds that a mean is of; nothing for one seed. */
const seedsText = (run) => (run.seeds > 1 ? ` ± ${score(run.sd)} (${run.seeds})` : "");
const isScored = (run) => run.status === "OK" && known(run.val_score);
const runLink = (id, text) => (runById.has(id) ? html("a", { href: "#" + id }, text || id) : text || id);
