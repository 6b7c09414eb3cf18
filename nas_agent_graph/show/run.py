"""One run on one page: who proposed it and why, what changed, how it went, how it was judged.

`record_of_run` reads the run's folder, whatever state it is in; `page` puts the record into lines.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nas_agent_graph.text.terminal import (
    Column,
    Line,
    dollars,
    duration,
    format_value,
    printable,
    sparkline,
    table,
    wrapped,
)
from nas_system.errors import StateError
from nas_system.files import finite, read_record
from nas_system.nas_agent.agent_state import RunInfo, get_run
from nas_system.nas_agent.history_summary import curve_digest
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.logging_utils import load_history
from nas_system.nas_agent.outcome import is_alive, log_tail, read_outcome
from nas_system.space import active_values, changes_between, metric_name_of, metric_on

LOG_LINES = 20
_LEFT_OUT = {"run_id", "val_mse", "test_mse", "val_mae", "test_mae", "history_summary", "key"}
_LABEL = 12
"""Columns of the labels on the left."""


def record_of_run(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """All that is known of a run, as plain JSON. Nothing is written, no missing file is an error."""
    paths, run = ledger.paths(run_id), get_run(ledger.state, run_id)
    folder = ledger.runs_dir / run_id
    current = ledger.state.current
    under_way = run is None and current is not None and current.run_id == run_id
    proposal = read_record(paths.proposal) or {}
    record: dict[str, Any] = {
        "run_id": run_id,
        "under_way": under_way,
        "step": current.step if under_way and current else None,
        "training_now": is_alive(folder) if under_way else False,
        "run": run_record(run, ledger.state.metric) if run else None,
        "champion": run_id == ledger.state.best_run_id,
        "proposal": proposal,
        "config_problem": None if run is None else ledger.config_problem(run_id),
        "changes": _changes(ledger, run_id, proposal),
        "curve": _curve(ledger, run_id),
        "verdict": {key: value for key, value in (read_record(paths.verdict) or {}).items() if key != "run"},
        "outcome": None if under_way else _outcome(ledger, run_id),
        "repeats": _repeats(ledger, run_id),
        "files": _files(ledger, run_id),
        "log_tail": "",
    }
    if run is not None and run.status != "OK":
        record["log_tail"] = log_tail(folder, LOG_LINES)
    return record


def run_record(run: RunInfo, metric: str) -> dict[str, Any]:
    """A run's entry for programs, with the scores of its task and of no other."""
    scores = {"run_id": run.run_id, metric: run.val_score, metric_on("test", metric): run.test_score}
    return scores | run.model_dump(exclude=_LEFT_OUT)


def _changes(ledger: Ledger, run_id: str, proposal: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameter, old and new value. From the two configurations if both are there, else as proposed."""
    parent_id = proposal.get("parent")
    # A name that stands in a file must be a run of this search, not a path to somewhere else.
    parent = None
    if isinstance(parent_id, str) and get_run(ledger.state, parent_id) is not None:
        parent = ledger.config(parent_id)
    config = ledger.config(run_id)
    if parent is None or config is None:
        stated = proposal.get("changes")
        return [
            {"parameter": change.get("parameter"), "old": None, "new": change.get("value")}
            for change in (stated if isinstance(stated, list) else [])
            if isinstance(change, dict)
        ]
    before = active_values(parent)
    return [
        {"parameter": change.parameter, "old": before.get(change.parameter), "new": change.value}
        for change in changes_between(parent, config)
    ]


def _curve(ledger: Ledger, run_id: str) -> dict[str, Any] | None:
    try:
        history = load_history(ledger.runs_dir / run_id)
    except StateError:
        return None
    epochs = history.get("epochs")
    entries = [entry for entry in epochs if isinstance(entry, dict)] if isinstance(epochs, list) else []
    metric = ledger.state.metric
    values = [finite(entry.get(metric)) for entry in entries]
    return {**asdict(curve_digest(history, metric_name_of(metric))), metric: values} if entries else None


def _outcome(ledger: Ledger, run_id: str) -> dict[str, Any] | None:
    try:
        return asdict(read_outcome(ledger.runs_dir / run_id, ledger.state.metric))
    except StateError:  # trained again by hand at this moment, or newer than this program
        return None


def _repeats(ledger: Ledger, run_id: str) -> list[dict[str, Any]]:
    """The same configuration with other seeds: how the noise was measured."""
    found, metric = [], ledger.state.metric
    for folder in sorted((ledger.runs_dir / run_id / "repeats").glob("seed_*")):
        try:
            outcome = read_outcome(folder, metric)
        except StateError:
            found.append({"name": folder.name, "status": "training", metric: None})
        else:
            found.append({"name": folder.name, "status": str(outcome.status), metric: outcome.val_score})
    return found


def _files(ledger: Ledger, run_id: str) -> list[dict[str, Any]]:
    folder = ledger.runs_dir / run_id
    if not folder.is_dir():
        return []
    return [
        {"name": path.name, "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.endswith((".lock", ".tmp"))
    ]


def page(record: dict[str, Any], width: int, metric: str) -> list[Line]:
    """The record for people; `metric` is the task's, under whose name the record holds the scores."""
    run, proposal = record["run"] or {}, record["proposal"]
    lines = [_title(record)]
    parent = printable(proposal.get("parent") or run.get("parent") or "none", 64)
    lines += _field("proposed by", _format_proposer(record, parent), width)
    if proposal.get("hypothesis"):
        lines += _field("hypothesis", printable(proposal["hypothesis"], 1000), width)
    lines += _expectation(proposal.get(f"expected_{metric}"), run.get(metric), metric, width)
    if record["config_problem"]:
        lines += _field("", printable(record["config_problem"], 400), width, "yellow")
    lines += _changes_table(record["changes"], parent, record["run_id"], width)
    lines += _curve_lines(record, metric, width)
    lines += _result_lines(record, run, metric, width)
    lines += _file_lines(record["files"], width)
    if record["log_tail"]:
        lines += [Line(""), Line(f"the last lines of train.log (at most {LOG_LINES}):", "bold")]
        lines += [Line(f"  {printable(text, 400)}", "dim") for text in record["log_tail"].splitlines()]
    return lines


def _title(record: dict[str, Any]) -> Line:
    run = record["run"]
    if record["under_way"]:
        now = "training now" if record["training_now"] else "not training at this moment"
        step = printable(record["step"], 40)
        return Line(f"{record['run_id']}: under way ({now}; at {step})", "bold yellow")
    if run is None:
        return Line(f"{record['run_id']}: not in the search's state, only its folder is there", "bold yellow")
    if run["status"] != "OK":
        return Line(f"{record['run_id']}: {printable(run['status'], 20)}, no score", "bold red")
    word = "the best run" if record["champion"] else "accepted" if run["accepted"] else "not accepted"
    return Line(f"{record['run_id']}: OK, {word}", "bold green" if run["accepted"] else "bold")


def _format_proposer(record: dict[str, Any], parent: str) -> str:
    run, proposal = record["run"] or {}, record["proposal"]
    who = proposal.get("proposer") or run.get("proposer")
    if not who:
        return "nobody yet" if record["under_way"] else "unknown: proposal.json is missing or unreadable"
    tokens = f", {run['tokens']} tokens" if run.get("tokens") else ""
    cost = finite(run.get("cost_usd"))
    tokens += f" ({dollars(cost)})" if cost is not None else ""
    return f"{printable(who, 64)}{tokens}" + (f"; parent: {parent}" if parent != "none" else "; no parent")


def _field(label: str, text: str, width: int, style: str = "") -> list[Line]:
    return wrapped(f"{label:<{_LABEL}} {text}", width, style=style, indent=_LABEL + 1)


def _expectation(stated: Any, actual: float | None, metric: str, width: int) -> list[Line]:
    expected = finite(stated)
    if expected is None:
        return []
    text = f"{metric} {expected:.5f}"
    if actual is not None:
        verb = "better" if actual < expected else "worse"
        text += f"; it became {actual:.5f}, {abs(actual - expected):.5f} {verb} than expected"
    return _field("expected", text, width)


def _changes_table(changes: list[dict[str, Any]], parent: str, run_id: str, width: int) -> list[Line]:
    if not changes:
        return []
    old = ["-" if change["old"] is None else format_value(change["old"]) for change in changes]
    columns = [
        Column("  parameter", [f"  {printable(change['parameter'], 60)}" for change in changes], least=20),
        Column(parent, old, ">", least=8),
        Column("", ["->"] * len(changes)),
        Column(run_id, [format_value(change["new"]) for change in changes], least=8),
    ]
    return [Line(""), *table(columns, [""] * len(changes), width), Line("")]


def _curve_lines(record: dict[str, Any], metric: str, width: int) -> list[Line]:
    curve = record["curve"]
    if curve is None:
        return _field("curve", "no epoch yet" if record["under_way"] else "no epoch was completed", width)
    text = f"{curve['epochs']} epoch" + "s" * (curve["epochs"] != 1)
    if curve["min_val"] is not None:
        text += (
            f", {metric} from {curve['first_val']:.5f} to {curve['min_val']:.5f}"
            f" at epoch {curve['best_epoch']} (counted from 0), at the end {curve['last_val']:.5f}"
        )
    lines = _field("curve", f"{text}; {curve['flag'].replace('_', ' ')}", width)
    drawn = sparkline(curve[metric], width - _LABEL - 1)
    return lines + ([Line(" " * (_LABEL + 1) + drawn, "cyan")] if drawn.strip() else [])


def _result_lines(record: dict[str, Any], run: dict[str, Any], metric: str, width: int) -> list[Line]:
    lines, outcome, verdict = [], record["outcome"] or {}, record["verdict"]
    test = metric_on("test", metric)
    if run.get(metric) is not None:
        lines += _field(metric, f"{run[metric]:.6f}", width, "bold")
    if run.get(test) is not None:
        lines += _field(test, f"{run[test]:.6f} (for people; not used by the search)", width)
    for repeat in record["repeats"]:
        score = repeat["status"] if repeat[metric] is None else f"{metric} {repeat[metric]:.6f}"
        lines += _field("repeat", f"{repeat['name']}: {score}", width)
    if verdict:
        word = "accepted" if verdict.get("accepted") else "not accepted"
        lines += _field("verdict", f"{word}: {printable(verdict.get('reason', ''))}", width)
    if run:
        lines += _field("end", _format_end(run, outcome), width, "" if run["status"] == "OK" else "red")
        if outcome.get("confinement"):
            lines += _field("cage", printable(outcome["confinement"], 120), width)
    found = outcome.get("status")
    if run and found is not None and found != run["status"]:
        text = f"today its folder says {found}: {printable(outcome.get('cause') or 'no cause')}"
        lines += _field("", text, width, "yellow")
    elif run and (score := finite(outcome.get("val_score"))) is not None and score != run.get(metric):
        text = f"today its metrics.json says {metric} {score:.6f}; the search keeps what it read"
        lines += _field("", text, width, "yellow")
    return lines


def _format_end(run: dict[str, Any], outcome: dict[str, Any]) -> str:
    text = printable(run["status"], 20)
    if run.get("cause"):
        text += f": {printable(_without_numbers(run['cause'], outcome))}"
    if run.get("seconds") is not None:
        text += f"; {duration(run['seconds'])}"
    if run.get("attempt", 1) > 1:
        text += f", attempt {run['attempt']}"
    if outcome.get("peak_memory_mb"):
        text += f", peak memory {outcome['peak_memory_mb']:.0f} MiB"
    if run["status"] != "OK":
        where = {name: outcome.get(name) for name in ("epoch", "step")}
        known = {**(outcome.get("numbers") or {}), **where}
        numbers = [f"{printable(name, 40)} {value:.6g}" for name, value in known.items() if value is not None]
        text += f" ({', '.join(numbers)})" if numbers else ""
    return text


def _without_numbers(cause: str, outcome: dict[str, Any]) -> str:
    """The state keeps a cause with its numbers in brackets; this page tells them in full behind it."""
    plain = outcome.get("cause")
    return plain if plain and cause.startswith(f"{plain} (") else cause


def _file_lines(files: list[dict[str, Any]], width: int) -> list[Line]:
    if not files:
        return _field("files", "none", width)
    names = ", ".join(f"{printable(file['name'], 60)} ({_size(file['bytes'])})" for file in files)
    return _field("files", names, width)


def _size(count: int) -> str:
    # No space: a line must not break inside.
    if count < 1000:
        return f"{count}B"
    return f"{count / 1e3:.1f}kB" if count < 1e6 else f"{count / 1e6:.1f}MB"
